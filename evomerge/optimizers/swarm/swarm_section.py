"""The particles of a swarm as a table, and what it began and ended with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evomerge.nouns.run_record import RunRecord
from evomerge.nouns.score_text import number, score_content, score_text
from evomerge.nouns.section import FAILED, Section
from evomerge.nouns.trial import Trial
from evomerge.optimizers.swarm.swarm_tracks import SwarmHistory, swarm_of
from evomerge.optimizers.swarm.swarm_vote import Vote, vote

_N_SHOWN = 6  # iterations beside the first
_SPLITS = {"search": "tasks", "validation": "validation", "holdout": "holdout"}


def swarm_section(run: RunRecord) -> Section | None:
    """Utilities per particle over the iterations, then what it began and ended with."""
    history = swarm_of(run)
    if history is None:
        return None
    last = history.n_iterations - 1
    shown = [0, *range(max(1, last - _N_SHOWN + 1), last + 1)]
    ends = list(_ends(history))
    return Section(
        "swarm",
        "swarm: score on the search tasks per iteration",
        ("particle", *("start" if i == 0 else str(i) for i in shown), "best"),
        tuple(_rows(history, shown)),
        ("- was not evaluated", *(line for end in ends for line in _told(end))),
        {"scratchpad": history.scratchpad()} | {end["name"]: _end_data(end) for end in ends},
    )


def _rows(history: SwarmHistory, shown: Sequence[int]) -> Iterator[tuple[str, ...]]:
    for row, utilities in enumerate(history.utilities):
        cells = [_cell(history.cells[row][i], utilities[i]) for i in shown]
        known = [utility for utility in utilities if utility is not None]
        yield (str(row), *cells, number(max(known)) if known else "-")
    bests = [history.best_so_far[iteration] for iteration in shown]
    yield ("swarm", *("-" if best is None else number(best) for best in bests), "")


def _cell(trial: Trial | None, utility: float | None) -> str:
    if trial is not None and utility is None:
        return FAILED
    return "-" if utility is None else number(utility)


def _ends(history: SwarmHistory) -> Iterator[dict[str, Any]]:
    """Both ends: the best trial there, known ones included, and the votes of the particles."""
    ends = (
        ("starting", history.starting_best, history.starting),
        ("ending", history.ending_best, history.ending),
    )
    for name, best, particles in ends:
        if best is not None:
            votes = {
                split: vote(history, particles, _SPLITS[split])
                for split in ("search", *history.run.finals)
            }
            is_known = best in history.known and best not in particles
            yield {
                "name": name,
                "best": best,
                "is_known": is_known,
                "scores": history.scores(best),
                "votes": votes,
            }


def _told(end: dict[str, Any]) -> Iterator[str]:
    scores = ", ".join(f"{split} {score_text(score)}" for split, score in end["scores"].items())
    place = " (known before the swarm)" if end["is_known"] else ""
    yield f"{end['name']} best: trial {end['best'].candidate.trial_id}{place}, {scores}"
    for split, result in end["votes"].items():
        yield f"{end['name']} vote, {split}: {_vote_text(result)}"


def _vote_text(result: Vote) -> str:
    if result.score is None:
        return f"not taken: {result.reason}"
    return f"{score_text(result.score)} by {len(result.voters)} particles"


def _end_data(end: dict[str, Any]) -> dict[str, Any]:
    return {
        "trial": end["best"].candidate.trial_id,
        "scores": {split: score_content(score) for split, score in end["scores"].items()},
        "votes": {
            split: {
                "voters": list(result.voters),
                "score": None if result.score is None else score_content(result.score),
                "reason": result.reason,
            }
            for split, result in end["votes"].items()
        },
    }

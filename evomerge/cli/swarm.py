"""The particles of a swarm as a table."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from evomerge.cli.tables import empty_table
from evomerge.report.swarm import SwarmHistory
from evomerge.report.swarm_vote import Vote, vote
from evomerge.report.text import number, score_text
from evomerge.trial import Trial

_N_SHOWN = 6  # iterations beside the first
_SPLITS = {"search": "tasks", "validation": "validation", "holdout": "holdout"}


def draw_swarm(console: Console, history: SwarmHistory) -> None:
    """Prints utilities per particle over the iterations, then what it began and ended with."""
    last = history.n_iterations - 1
    shown = [0, *range(max(1, last - _N_SHOWN + 1), last + 1)]
    table = empty_table()
    table.add_column("particle", justify="right")
    for iteration in shown:
        table.add_column("start" if iteration == 0 else str(iteration), justify="right")
    table.add_column("best", justify="right")
    for row, utilities in enumerate(history.utilities):
        cells = [_cell(history.cells[row][i], utilities[i]) for i in shown]
        known = [utility for utility in utilities if utility is not None]
        table.add_row(str(row), *cells, number(max(known)) if known else "-")
    bests = [history.best_so_far[iteration] for iteration in shown]
    table.add_row("swarm", *("-" if best is None else number(best) for best in bests), "")
    console.print("\nswarm: score on the search tasks per iteration", style="bold")
    console.print(table)
    console.print("- was not evaluated", style="dim")
    for line in _ends(history):
        console.print(Text(line), soft_wrap=True)


def _cell(trial: Trial | None, utility: float | None) -> Text:
    if trial is not None and utility is None:
        return Text("failed", style="red")
    return Text("-" if utility is None else number(utility))


def _ends(history: SwarmHistory) -> Iterator[str]:
    for name, trials in (("starting", history.starting), ("ending", history.ending)):
        if not trials:
            continue
        best = trials[0]
        scores = history.scores(best)
        told = ", ".join(f"{split} {score_text(score)}" for split, score in scores.items())
        yield f"{name} best: trial {best.candidate.trial_id}, {told}"
        for split in ("search", *history.run.finals):
            told = _vote_text(vote(history, trials, _SPLITS[split]))
            yield f"{name} vote, {split}: {told}"


def _vote_text(result: Vote) -> str:
    if result.score is None:
        return f"none, {result.reason}"
    return f"{score_text(result.score)} by {len(result.voters)} particles"

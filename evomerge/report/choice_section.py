"""How sure the choice of the winner is, and what its search score is worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evomerge.nouns.comparison import Comparison
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.trial import Trial
from evomerge.report.gains import Gains
from evomerge.report.score_text import number, with_error
from evomerge.report.trial_names import short_origins
from evomerge.run.expectation import Expectation, expectation
from evomerge.run.final_choice import finalists
from evomerge.run.recorded_run import RecordedRun
from evomerge.run.search_documents import SearchDocuments


@dataclass(frozen=True)
class Choice:
    """What is known of a winner beside its scores.

    Attributes:
        trial: Its trial.
        documents: What the choice stands on: ``search``, ``validation``, or
            ``search and validation``.
        n_finalists: How many were looked at again, the winner among them.
        cannot_be_told_from: Those of them that the documents cannot tell from the winner, the best
            first.
        expectation: What its search score is worth; None where nobody can tell.
    """

    trial: int
    documents: str
    n_finalists: int
    cannot_be_told_from: tuple[str, ...]
    expectation: Expectation | None

    @property
    def sentences(self) -> list[str]:
        """The same for people."""
        return [*self._expected(), *self._unsure()]

    def _expected(self) -> Iterator[str]:
        found = self.expectation
        if found is not None:
            expected = with_error(Score(found.expected, found.stderr, 0))
            yield (
                f"Search score {number(found.searched)}, of {found.looks} looks: about {expected} "
                "is to be expected on fresh documents."
            )

    def _unsure(self) -> Iterator[str]:
        first, *more = self.cannot_be_told_from or ("",)
        if first:
            names = f"{first} and {len(more)} more" if more else first
            yield (
                f"On the {self.documents} documents the winner cannot be told from {names} of the "
                f"{self.n_finalists} best."
            )


def choice_of(run: RecordedRun) -> Choice | None:
    """How the winner of a run stands; None where there is none, or several objectives."""
    if run.standing.is_multi or not run.winners:
        return None
    choice, winner = run.choice, run.winners[0]
    compare = SearchDocuments(run.ledger, run.standing.objective)
    seen = finalists(run.standing, choice.count, compare)
    if choice.validation is not None:
        seen = [trial for trial in choice.candidates if math.isfinite(choice.loss(trial))]
    splits = ["validation"] if choice.validation is not None else ["tasks"]
    if choice.is_pooled:
        splits = ["tasks", "validation"]
    others = sorted((trial for trial in seen if trial is not winner), key=choice.loss)
    beside = {split: _gains(run, split, winner) for split in splits}
    names = short_origins(run.standing.trials)
    unsure = []
    for other in others:
        are_fair = choice.is_fair(winner) and choice.is_fair(other)
        counting = splits if are_fair else splits[-1:]
        found = [beside[split].of(_id(other))[0] for split in counting]
        if _cannot_be_told([one for one in found if one is not None]):
            unsure.append(names.get(_id(other), f"trial {_id(other)}"))
    return Choice(
        _id(winner),
        " and ".join("search" if split == "tasks" else split for split in splits),
        len(others) + 1,
        tuple(unsure),
        expectation(choice, compare),
    )


def _gains(run: RecordedRun, split: str, winner: Trial) -> Gains:
    return Gains(run, split, [_objective(run, split)], [_id(winner)])


def _objective(run: RecordedRun, split: str) -> Objective:
    return run.standing.objective if split == "tasks" else run.finals[split]


def _cannot_be_told(found: Sequence[Comparison]) -> bool:
    """Whether the documents of all splits together leave open which of two is better."""
    errors = [one.stderr for one in found if one.stderr is not None]
    n = sum(one.n for one in found)
    if not found or len(errors) < len(found) or not n:
        return False  # nobody knows
    difference = sum(one.n * one.difference for one in found) / n
    weighted = (one.n * error for one, error in zip(found, errors, strict=True))
    n_differing = sum(one.n_differing for one in found)
    return not Comparison(difference, math.hypot(*weighted) / n, n, n_differing).is_distinguishable


def _id(trial: Trial) -> int:
    return trial.candidate.trial_id

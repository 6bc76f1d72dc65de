"""How sure the choice of the winner is, and what its search score is worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evomerge.nouns.comparison import Comparison
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.score_text import number, with_error
from evomerge.nouns.trial import Trial
from evomerge.report.gains import Gains
from evomerge.report.trial_names import short_origins
from evomerge.run.expectation import Expectation, expectation
from evomerge.run.final_choice import leaders
from evomerge.run.recorded_run import RecordedRun
from evomerge.run.search_documents import SearchDocuments


@dataclass(frozen=True)
class WinnerFacts:
    """What is known of a winner beside its scores.

    Attributes:
        trial: Its trial.
        documents: What the choice stands on: ``search``, ``validation``, or
            ``search and validation``.
        n_candidates: How many could win, the winner among them.
        cannot_be_told_from: Those of them that these documents cannot tell from the winner, the
            best first.
        expectation: What its search score is worth; None where nobody can tell.
        nor_by_validation: Those that were compared with it on the validation documents alone, as
            the search documents taught or chose one of the two, and cannot be told from it either.
    """

    trial: int
    documents: str
    n_candidates: int
    cannot_be_told_from: tuple[str, ...]
    expectation: Expectation | None
    nor_by_validation: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """The same for people."""
        return [*self._expected(), *self._unsure()]

    def _expected(self) -> Iterator[str]:
        found = self.expectation
        if found is not None and found.looks:  # a model as it is was chosen by nobody
            expected = with_error(Score(found.expected, found.stderr, 0))
            yield (
                f"Search score {number(found.searched)}, of {found.looks} looks: about {expected} "
                "is to be expected on fresh documents."
            )

    def _unsure(self) -> Iterator[str]:
        pairs = (self.documents, self.cannot_be_told_from), ("validation", self.nor_by_validation)
        for documents, names in pairs:
            if names:
                first, *more = names
                which = f"{first} and {len(more)} more" if more else first
                yield (
                    f"On the {documents} documents the winner cannot be told from {which}; "
                    f"{self.n_candidates} could win."
                )


def choice_of(run: RecordedRun) -> WinnerFacts | None:
    """How the winner of a run stands; None where there is none, or several objectives."""
    if run.leaderboard.is_multi or not run.winners:
        return None
    choice, winner = run.choice, run.winners[0]
    compare = SearchDocuments(run.ledger, run.leaderboard.objective)
    seen = choice.candidates
    if choice.validation is None:
        seen = leaders(seen, choice.count, compare)
    splits = ["validation"] if choice.validation is not None else ["tasks"]
    if choice.is_pooled:
        splits = ["tasks", "validation"]
    seen = [trial for trial in seen if math.isfinite(choice.loss(trial))]
    others = sorted((trial for trial in seen if trial is not winner), key=choice.loss)
    beside = {split: _gains(run, split, winner) for split in splits}
    names = short_origins(run.leaderboard.trials)
    unsure: dict[bool, list[str]] = {True: [], False: []}  # on all documents, on validation alone
    for other in others:
        on_all = choice.is_fair(winner) and choice.is_fair(other)
        counting = splits if on_all else splits[-1:]
        found = [beside[split].of(_id(other))[0] for split in counting]
        if _cannot_be_told([one for one in found if one is not None]):
            is_named_apart = choice.is_pooled and not on_all
            unsure[not is_named_apart].append(names.get(_id(other), f"trial {_id(other)}"))

    def compare_validated(_: Trial, other: Trial) -> Comparison:
        (found,) = beside["validation"].of(_id(other))
        return found or Comparison(math.nan, None, 0)

    return WinnerFacts(
        _id(winner),
        " and ".join("search" if split == "tasks" else split for split in splits),
        len(others) + 1,
        tuple(unsure[True]),
        expectation(choice, compare, compare_validated),
        tuple(unsure[False]),
    )


def _gains(run: RecordedRun, split: str, winner: Trial) -> Gains:
    return Gains(run, split, [_objective(run, split)], [_id(winner)])


def _objective(run: RecordedRun, split: str) -> Objective:
    return run.leaderboard.objective if split == "tasks" else run.finals[split]


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

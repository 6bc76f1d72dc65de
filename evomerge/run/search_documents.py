"""Trials of a ledger, compared on the search documents."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from evomerge.foundations.errors import LedgerError
from evomerge.foundations.seeding import stream
from evomerge.nouns.comparison import Comparison, compare
from evomerge.nouns.evaluation import Evaluation
from evomerge.nouns.objective import Objective
from evomerge.nouns.trial import Trial
from evomerge.run.ledger.history import Ledger


class SearchDocuments:
    """Compares trials of a run on the documents that steered it.

    Args:
        ledger: Where the documents are.
        objective: Of the search, with one score.
    """

    def __init__(self, ledger: Ledger, objective: Objective) -> None:
        self._ledger, self._objective = ledger, objective
        self._members = ledger.header.get("members", {}).get("tasks", {})
        self._evaluation = lru_cache(maxsize=2)(self._read)

    def __call__(self, one: Trial, other: Trial) -> Comparison:
        """By how much the first is better; without an error where documents cannot be read."""
        ids = one.candidate.trial_id, other.candidate.trial_id
        mine, theirs = map(self._evaluation, ids)
        seed, rule = self._ledger.header["seed"], self._objective.name
        draws = stream(seed, "comparison", "tasks", rule, *ids)
        return compare(self._objective, mine, theirs, draws, self._members)[0]

    def _read(self, trial_id: int) -> Evaluation:
        evaluation = self._ledger.trials[trial_id].outcome.evaluation
        assert evaluation is not None  # only complete trials are ranked
        try:
            return replace(evaluation, documents=self._ledger.documents(trial_id))
        except LedgerError:  # a broken file: the report tells of it
            return evaluation

"""Between a search and its optimizer: genotypes become candidates, outcomes become losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evomerge.merge_spaces.base import MergeSpace
from evomerge.nouns.objective import Objective
from evomerge.nouns.origin import proposed
from evomerge.nouns.trial import Candidate, Evaluation, Genotype, Outcome
from evomerge.optimizers.base import Optimizer
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.history import Ledger


class Proposer:
    """Asks an optimizer for candidates and tells it what came of them.

    Args:
        optimizer: Who proposes.
        merge_space: Points -> recipes.
        ledger: Where it is written what the optimizer was told.
    """

    def __init__(self, optimizer: Optimizer, merge_space: MergeSpace, ledger: Ledger) -> None:
        self.optimizer = optimizer
        self._merge_space = merge_space
        self._ledger = ledger
        self._n_told = 0

    def ask(self, first: int) -> list[Candidate]:
        """The next candidates, the first of them trial ``first``."""
        genotypes = self.optimizer.ask()
        return [self._candidate(first + row, row, g) for row, g in enumerate(genotypes)]

    def _candidate(self, trial_id: int, row: int, genotype: Genotype) -> Candidate:
        origins = self.optimizer.origins
        origin = origins[row] if origins else proposed()
        config = self.optimizer.recipe_config(row)
        if config is not None:
            return Candidate(trial_id, origin, Recipe(config), genotype)
        point = self._merge_space.space.decode(genotype)
        return Candidate(trial_id, origin, self._merge_space.recipe(point), genotype, point)

    def tell(
        self, candidates: Sequence[Candidate], outcomes: Sequence[Outcome], objective: Objective
    ) -> None:
        """Tells the optimizer, and writes down that it was told."""
        genotypes = np.stack([c.genotype for c in candidates if c.genotype is not None])
        losses = np.stack([objective.losses(outcome) for outcome in outcomes])
        evaluations = [self._seen(c, o) for c, o in zip(candidates, outcomes, strict=True)]
        self.optimizer.tell(genotypes, losses, evaluations)
        if self._n_told == len(self._ledger.told):  # else it is written already
            self._ledger.record_told(tuple(candidate.trial_id for candidate in candidates))
        self._n_told += 1

    def _seen(self, candidate: Candidate, outcome: Outcome) -> Evaluation | None:
        """What the optimizer may read of an outcome; documents only where it needs them."""
        evaluation = outcome.evaluation
        if evaluation is None or evaluation.documents or not self.optimizer.needs_documents:
            return evaluation
        return replace(evaluation, documents=self._ledger.documents(candidate.trial_id))

"""Between a search and its optimizer: genotypes become candidates, outcomes become losses.

An ask while trials are out, and every tell, is a turn; the ledger has them in their order. A run
that goes on takes the same turns again: the optimizer proposes what it proposed, whatever came
first. An ask with nothing out needs no line: it comes when all before it were told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evomerge.foundations.errors import LedgerError
from evomerge.merge_spaces.base import MergeSpace
from evomerge.nouns.evaluation import Evaluation, Outcome
from evomerge.nouns.objective import Objective
from evomerge.nouns.origin import proposed
from evomerge.nouns.trial import Candidate, Genotype
from evomerge.optimizers.base import Optimizer
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.lines import Turn


class Proposer:
    """Asks an optimizer for candidates and tells it what came of them.

    Args:
        optimizer: Who proposes.
        merge_space: Points -> recipes.
        ledger: Where it is written when the optimizer was asked and told.
    """

    def __init__(self, optimizer: Optimizer, merge_space: MergeSpace, ledger: Ledger) -> None:
        self.optimizer = optimizer
        self._merge_space = merge_space
        self._ledger = ledger
        self._n_turns = 0  # taken so far
        self._out: set[int] = set()  # trials that were asked for and not told
        self._last_recorded = max(ledger.trials, default=-1)

    @property
    def _due(self) -> Turn | None:
        """The turn that came next when the run was here; None where it was not."""
        order = self._ledger.order
        return order[self._n_turns] if self._n_turns < len(order) else None

    def is_recorded(self, first: int) -> bool:
        """Whether the run was beyond an ask for trial ``first`` already."""
        return self._due is not None or first <= self._last_recorded

    @property
    def is_replaying_stream(self) -> bool:
        """Whether trials are out that the run was beyond: their outcomes are known too early."""
        return bool(self._out) and self._due is not None

    def may_ask(self, first: int) -> bool:
        """Whether the optimizer can be asked for trial ``first`` now, and was, if it was."""
        if not self._out:
            return True
        if not self.optimizer.can_ask:
            return False
        return self._due is None or self._due.is_ask_for(first)

    @property
    def due_to_hear(self) -> tuple[int, ...] | None:
        """Trials that the optimizer is to hear of now; None: of any that are over."""
        if self._due is None:
            return None
        return self._due.trial_ids if self._due.kind == "told" else ()

    def ask(self, first: int) -> list[Candidate]:
        """The next candidates, the first of them trial ``first``; none: after those that are out.

        Raises:
            LedgerError: the ledger has other turns.
        """
        genotypes = self.optimizer.ask()
        found = [self._candidate(first + row, row, g) for row, g in enumerate(genotypes)]
        if self._out and found:
            self._take(Turn("asked", tuple(candidate.trial_id for candidate in found)))
        self._out.update(candidate.trial_id for candidate in found)
        return found

    def leave(self) -> None:
        """Asks for nothing more: what was trained gives back its memory and its place."""
        self.optimizer.context.end_training()

    def _candidate(self, trial_id: int, row: int, genotype: Genotype) -> Candidate:
        origins = self.optimizer.origins
        origin = origins[row] if origins else proposed()
        config = self.optimizer.recipe_config(row)
        if config is not None:
            recipe = self._merge_space.written(Recipe(config))
            return Candidate(trial_id, origin, recipe, genotype)
        point = self._merge_space.space.decode(genotype)
        recipe = self._merge_space.written(self._merge_space.recipe(point))
        return Candidate(trial_id, origin, recipe, genotype, point)

    def tell(
        self, candidates: Sequence[Candidate], outcomes: Sequence[Outcome], objective: Objective
    ) -> None:
        """Tells the optimizer, and writes down that it was told.

        Raises:
            LedgerError: the ledger has other turns.
        """
        genotypes = np.stack([c.genotype for c in candidates if c.genotype is not None])
        losses = np.stack([objective.losses(outcome) for outcome in outcomes])
        evaluations = [self._seen(c, o) for c, o in zip(candidates, outcomes, strict=True)]
        self.optimizer.tell(genotypes, losses, evaluations)
        told = tuple(candidate.trial_id for candidate in candidates)
        self._take(Turn("told", told))
        self._out.difference_update(told)

    def _take(self, turn: Turn) -> None:
        """A turn is taken; the first time it is written down."""
        if self._due is None:
            self._ledger.record_turn(turn)
        elif self._due != turn:
            raise self.another_order(turn.trial_ids[0])
        self._n_turns += 1

    def another_order(self, trial_id: int) -> LedgerError:
        """The refusal of a history that this optimizer cannot have."""
        return LedgerError(
            f"at trial {trial_id} the optimizer is asked or told in another order now",
            where=str(self._ledger.folder.ledger),
            fix="Resume with the genome and the versions of the ledger's first line, or "
            "start a new run folder.",
        )

    def _seen(self, candidate: Candidate, outcome: Outcome) -> Evaluation | None:
        """What the optimizer may read of an outcome; documents only where it needs them."""
        evaluation = outcome.evaluation
        if evaluation is None or evaluation.documents or not self.optimizer.needs_documents:
            return evaluation
        return replace(evaluation, documents=self._ledger.documents(candidate.trial_id))

"""Optimizers that search side by side and send one another their best.

Source: Tanese, Distributed genetic algorithms (1989), ICGA 3.
Differs: the islands are optimizers of any kind, and every one sends its best trial to every
other that can learn from trials made elsewhere in mid-run; they take turns, a generation each, or,
while trials are out, what each of them then gives.
Each spends its own budget, its last generation cut to what is left of it; where one has no more
to ask before that, the others share what it leaves by going on in turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from evomerge.nouns.evaluation import Evaluation
from evomerge.nouns.origin import proposed
from evomerge.nouns.space import Space
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.chain import CombinedOptimizer, Link
from evomerge.optimizers.search_context import SearchContext

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Migrant:
    """One trial."""

    genotype: Array
    losses: Array
    evaluation: Evaluation | None

    @property
    def loss(self) -> float:
        """The sum of its losses."""
        return float(self.losses.sum())


@dataclass
class _Island:
    """An optimizer and what it found.

    Attributes:
        link: What it is.
        optimizer: Who proposes.
        position: Which of the islands it is.
        n_asked: Trials it proposed.
        best: The best of them, the first of equals; None while all have failed.
        known: Genotypes of the migrants it was told of.
        is_cut: Whether its last generation was, so that it can be told and asked nothing more.
    """

    link: Link
    optimizer: Optimizer
    position: int
    n_asked: int = 0
    best: _Migrant | None = None
    known: set[bytes] = field(default_factory=set)
    is_cut: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it has nothing more to ask."""
        return self.is_cut or self.optimizer.is_finished

    @property
    def share(self) -> float:
        """How much of its budget is spent."""
        return self.n_asked / max(self.link.budget, 1)


@dataclass(frozen=True)
class _Ask:
    """What is known of a genotype that is out.

    Attributes:
        island: Who asked for it.
        is_heard: Whether he is told: not where his generation was cut.
        is_meant: Whether its recipe is the genotype's own.
    """

    island: _Island
    is_heard: bool
    is_meant: bool


class Islands(CombinedOptimizer):
    """Asks one optimizer after the other, each over the same space.

    Args:
        links: At least one island, in the order of their first turns.
        space: See :class:`Optimizer`, like the rest.
        migrate_every: Trials of all together between two migrations.
        seed: The islands have seeds of their own; this one is not used.
        n_objectives: Columns of the losses; every island can minimise so many.
        context: What the islands may know and use; each keeps its things apart.
    """

    with_others_out: ClassVar[str] = (
        "what the island gives that spent least of its budget, of those that can be asked"
    )

    def __init__(
        self,
        links: Sequence[Link],
        space: Space,
        *,
        migrate_every: int,
        seed: int,
        n_objectives: int = 1,
        context: SearchContext | None = None,
    ) -> None:
        self._migrate_every = migrate_every
        super().__init__(links, space, seed=seed, n_objectives=n_objectives, context=context)

    def _start(self) -> None:
        self._islands = [
            _Island(link, self._made(position, self.space, budget=link.budget), position)
            for position, link in enumerate(self._links)
        ]
        self._evaluations: Sequence[Evaluation | None] = ()
        self.population_size = max(one.optimizer.population_size for one in self._islands)
        self.asks_ahead = any(one.optimizer.asks_ahead for one in self._islands)
        self._asking = self._islands[0]
        self._n_told = 0
        # Number of a genotype that is out -> whose it is; whether he hears, and a point is meant.
        self._asked_by: dict[int, _Ask] = {}

    @property
    def _turn(self) -> _Island:
        """Whose turn it is: of those that can ask who spent the least of his budget."""
        able = [one for one in self._islands if self._is_able(one)] or self._islands
        return min(able, key=lambda one: np.inf if one.is_over else one.share)

    @property
    def can_ask(self) -> bool:
        """Whether one of them can."""
        return not self._out or any(self._is_able(one) for one in self._islands)

    @property
    def most_out(self) -> int | None:
        """As many as of all of them."""
        counts = [one.optimizer.most_out for one in self._islands]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def hears_apart(self) -> bool:
        """Whether the island that asked last does."""
        return self._asking.optimizer.hears_apart

    @property
    def is_finished(self) -> bool:
        """Whether no island has anything more to ask."""
        return all(one.is_over for one in self._islands)

    @property
    def activity(self) -> str:
        """What the island whose turn it is does where that takes long."""
        return self._turn.optimizer.activity

    @property
    def is_waiting(self) -> bool:
        """Whether an island waits for somebody else."""
        return any(one.optimizer.is_waiting for one in self._islands)

    def prepare(self) -> None:
        """As all of them do."""
        for one in self._islands:
            one.optimizer.prepare()

    def recipe_config(self, row: int) -> dict[str, object] | None:
        """The configuration of the island's own recipe."""
        return self._asking.optimizer.recipe_config(row)

    def _ask(self) -> Array:
        self._asking = island = self._turn
        asked = island.optimizer.ask()
        wanted = asked[: self._room_of(island)]
        island.is_cut = len(wanted) < len(asked)
        island.n_asked += len(wanted)
        for row in range(len(wanted)):
            is_meant = self.recipe_config(row) is None  # else its loss is not the genotype's
            self._asked_by[self._out.n_asked + row] = _Ask(island, not island.is_cut, is_meant)
        name, origins = f"island {island.position + 1} {island.link.name}", island.optimizer.origins
        own = (origins or [proposed()] * len(asked))[: len(wanted)]
        self.origins = tuple(origin.of_link(island.position, name) for origin in own)
        return wanted

    def _is_able(self, island: _Island) -> bool:
        """Whether it has something to ask now, and trials left for it."""
        can_ask = not island.is_over and island.optimizer.can_ask
        return can_ask and self._room_of(island) != 0

    def _room_of(self, island: _Island) -> int | None:
        """Trials left of its budget; None where it may spend what others leave, or is the last."""
        others = [one for one in self._islands if one is not island]
        is_left_some = any(one.optimizer.is_finished and one.share < 1 for one in others)
        if is_left_some or all(one.is_over or one.share >= 1 for one in others):
            return None
        return island.link.budget - island.n_asked

    def _see(self, evaluations: Sequence[Evaluation | None]) -> None:
        self._evaluations = evaluations

    def _learn(self, genotypes: Array, losses: Array) -> None:
        evaluations, self._evaluations = self._evaluations, ()
        for island in self._islands:
            if not island.n_asked or (island.optimizer.takes_migrants and not island.is_cut):
                island.optimizer.tell(genotypes, losses, evaluations)

    def _tell(self, genotypes: Array, losses: Array) -> None:
        evaluations, self._evaluations = self._evaluations, ()
        asks = [self._asked_by.pop(number) for number in self._heard]
        island = asks[0].island  # what is told together was asked for together
        if asks[0].is_heard:
            island.optimizer.tell(genotypes, losses, evaluations)
        seen = evaluations or [None] * len(genotypes)
        for row, (genotype, own) in enumerate(zip(genotypes, losses, strict=True)):
            one = _Migrant(genotype, np.atleast_1d(own), seen[row])
            is_better = island.best is None or one.loss < island.best.loss
            if asks[row].is_meant and is_better and np.isfinite(one.loss):
                island.best = one
        n_before, self._n_told = self._n_told, self._n_told + len(genotypes)
        if self._n_told // self._migrate_every > n_before // self._migrate_every:
            self._migrate()

    def _migrate(self) -> None:
        """Tells each island the best trial of each other, once."""
        for island in self._islands:
            bests = [one.best for one in self._islands if one is not island and one.best]
            new = [best for best in bests if best.genotype.tobytes() not in island.known]
            if new and island.optimizer.takes_migrants and not island.is_cut:
                island.known |= {migrant.genotype.tobytes() for migrant in new}
                island.optimizer.learn(
                    np.stack([migrant.genotype for migrant in new]),
                    np.stack([migrant.losses for migrant in new]),
                    [migrant.evaluation for migrant in new],
                )

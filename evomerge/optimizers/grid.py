"""Grid search: every combination of values once, in an order drawn from the seed.

Source: the order is one round of a walk with a stride that shares no divisor with the number n of
combinations, (start + i * stride) mod n; it is held by two numbers, however large n is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from evomerge.foundations.errors import Problem
from evomerge.foundations.seeding import stream
from evomerge.genome.schema import Genome, OptimizerLink
from evomerge.nouns.space import Space
from evomerge.optimizers.base import Optimizer, OptimizerSettings


class GridSettings(OptimizerSettings):
    """Settings of ``grid``.

    Attributes:
        n_values: Values tried of every continuous parameter, evenly from its lowest to its highest.
    """

    n_values: int = Field(default=5, ge=2)


class Grid(Optimizer):
    """Tries every combination; choices and whole numbers have all their values."""

    Settings: ClassVar[type[OptimizerSettings]] = GridSettings
    is_adaptive: bool = False
    learns_by_trials: bool = False
    asks_any_time: ClassVar[bool] = True
    with_others_out: ClassVar[str] = "the next point: no outcome changes it"
    only_ranks_matter: ClassVar[bool] = True
    settings: GridSettings

    @classmethod
    def obstacles(cls, space: Space, genome: Genome, settings: Any) -> Iterator[Problem]:
        """See :meth:`Optimizer.obstacles`."""
        yield from super().obstacles(space, genome, settings)
        yield from _too_many(space, settings, genome.optimizer.budget)

    @classmethod
    def oddities(
        cls, space: Space, link: OptimizerLink, settings: Any, n_before: int
    ) -> Iterator[Problem]:
        """See :meth:`Optimizer.oddities`; a part of a chain has a part of the budget."""
        yield from super().oddities(space, link, settings, n_before)
        yield from _too_many(space, settings, link.budget)

    @property
    def is_finished(self) -> bool:
        """Whether every combination was asked for."""
        return self._n_asked >= self._n

    def _start(self) -> None:
        rng = stream(self.seed, "optimizer")
        self._sides = _sides(self.space, self.settings)
        self._n, self._n_asked = math.prod(self._sides), 0
        self._first = _below(rng, self._n)
        self._stride = 0
        while math.gcd(self._stride, self._n) != 1:
            self._stride = _below(rng, self._n)

    def _ask(self) -> NDArray[np.float64]:
        left = self._n - self._n_asked % self._n  # who asks on begins another round
        count = min(self.population_size, left)
        places = range(self._n_asked, self._n_asked + count)
        self._n_asked += count
        return np.array(
            [self._genotype((self._first + i * self._stride) % self._n) for i in places]
        )

    def _genotype(self, number: int) -> list[float]:
        """The combination of a number, whose digits are the values of the parameters."""
        genotype = []
        for side, levels in zip(self._sides, self.space.levels, strict=True):
            number, digit = divmod(number, side)
            genotype.append(digit / (side - 1) if levels is None else (digit + 0.5) / side)
        return genotype

    def _tell(self, genotypes: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
        """Nothing is learned."""


def _sides(space: Space, settings: GridSettings) -> list[int]:
    """How many values of each parameter are tried."""
    return [settings.n_values if levels is None else levels for levels in space.levels]


def _below(rng: np.random.Generator, n: int) -> int:
    """A whole number in [0, n), which may be too large for numpy's own."""
    return int.from_bytes(rng.bytes(16 + n.bit_length() // 8), "big") % n


def _too_many(space: Space, settings: GridSettings, budget: int | None) -> Iterator[Problem]:
    n = math.prod(_sides(space, settings))
    if budget is not None and n > budget:
        few = "n_values" if None in space.levels else "the choices"
        yield Problem(
            f"the grid has {n:,} combinations of {space.n_dims} parameters, the budget is "
            f"{budget:,} trials",
            "budget",
            f"Raise it to {n:,}, make {few} fewer, or use optimizer: auto.",
        )

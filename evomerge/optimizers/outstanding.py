"""Genotypes that an optimizer was asked for and not told of: trials are out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Ask:
    """Genotypes that were asked for together.

    Attributes:
        genotypes: Shape (k, n_dims).
        numbers: How many were asked for before each of them.
        is_apart: Whether they may be told one by one.
    """

    genotypes: Array
    numbers: tuple[int, ...]
    is_apart: bool

    def without(self, row: int) -> _Ask:
        """The others."""
        numbers = self.numbers[:row] + self.numbers[row + 1 :]
        return replace(self, genotypes=np.delete(self.genotypes, row, axis=0), numbers=numbers)


class Outstanding:
    """What is out, in the order in which it was asked for; true while anything is.

    Attributes:
        n_asked: Genotypes asked for so far: the number of the next one.
    """

    def __init__(self) -> None:
        self.n_asked = 0
        self._asks: list[_Ask] = []

    def __bool__(self) -> bool:
        return bool(self._asks)

    def add(self, genotypes: Array, *, is_apart: bool) -> None:
        """An ask gave these, to be told one by one or all together; of none nothing is out."""
        if not len(genotypes):
            return
        first, self.n_asked = self.n_asked, self.n_asked + len(genotypes)
        self._asks.append(_Ask(genotypes, tuple(range(first, self.n_asked)), is_apart))

    def withdraw(self, genotypes: Array) -> tuple[int, ...]:
        """These are told now; their numbers. Of equal ones the first goes first.

        Raises:
            ValueError: they are not out.
        """
        for position, ask in enumerate(self._asks):
            if np.array_equal(ask.genotypes, genotypes):
                del self._asks[position]
                return ask.numbers
        left, numbers = list(self._asks), []
        for genotype in genotypes:
            places = (
                (position, int(row))
                for position, ask in enumerate(left)
                if ask.is_apart
                for row in np.flatnonzero((ask.genotypes == genotype).all(axis=1))
            )
            position, row = next(places, (-1, -1))
            if row < 0:
                raise ValueError("tell() got other genotypes than the ones asked")
            numbers.append(left[position].numbers[row])
            left[position] = left[position].without(row)
        self._asks = [ask for ask in left if ask.numbers]
        return tuple(numbers)

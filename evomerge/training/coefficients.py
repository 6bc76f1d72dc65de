"""The numbers a trainer moves: every weight that varies in a recipe, and where each one acts.

Which tensor a weight reaches is read off mergekit's own resolution of a recipe's parameters:
a recipe whose weights are serial numbers is resolved once, and what arrives at a tensor says
which weights, in which proportion, it is made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evomerge.merge_spaces.learnable import Learnable
from evomerge.merge_spaces.slots import Coupled, ValueSlot, Variable
from evomerge.merging.structure import PlannedTensor
from evomerge.merging.values import Values
from evomerge.nouns.space import Point, Real
from evomerge.recipe.plain import Recipe
from evomerge.training.reach import SERIAL, Reach, row_of

Array = NDArray[np.float64]
Numbers = NDArray[np.floating[Any]]  # float64, or float32 where there are many
_NEAR = 1e-6  # smaller sums of shares are as good as none


class Trained(Protocol):
    """Numbers that a trainer moves.

    Attributes:
        models: Which input each is a weight of, shape (n,).
        positions: Where it stands, equal for the models that meet there, shape (n,).
        modules: Which module each position is of, shape (positions,).
        stretches: Numbers that a momentum filter compares with one another.
    """

    models: NDArray[np.int64]
    positions: NDArray[np.int64]
    modules: NDArray[np.int64]

    @property
    def stretches(self) -> tuple[slice, ...]:
        """See the class."""

    def of(self, genotype: Array) -> Numbers:
        """Those a genotype means, shape (n,)."""

    def settled(self, values: Numbers) -> Numbers:
        """The nearest that are allowed."""

    def genotype(self, values: Numbers) -> Array:
        """The nearest genotype."""


class Coefficients:
    """The weights that vary, one after the other: slot by slot, control point by control point.

    Args:
        space: Only weights vary in it.

    Attributes:
        low: Smallest value of each, shape (n,).
        high: Largest value of each, shape (n,).
        shares: Indices of the weights that sum to 1 together, one array per such group.
        models: Which input each is the weight of, shape (n,).
        positions: Which place of the recipe, equal for the models that meet there, shape (n,).
        modules: All places are one module, shape (places,).
        is_given: Whether its range is the genome's own, shape (n,).
        gives_normalize: Whether the genome says itself if they are divided by their sum.
    """

    def __init__(self, space: Learnable) -> None:
        self._space = space
        self.gives_normalize = space.gives_normalize
        self._offsets: dict[int, int] = {}  # slot -> index of its first value
        ranges = {p.name: p for p in space.space if isinstance(p, Real)}
        low: list[float] = []
        high: list[float] = []
        shares: dict[tuple[Any, ...], list[list[int]]] = {}
        models: list[int] = []
        places: list[int] = []
        given: list[bool] = []
        seen: dict[tuple[int, str | None, int], int] = {}
        for position, slot in self._varying():
            n = _n_controls(slot)
            self._offsets[position] = first = len(low)
            models += [space.inputs.models.index(slot.model)] * n
            given += [space.is_given(slot)] * n
            for control in range(n):
                place = (slot.slice, slot.filter, control)
                places.append(seen.setdefault(place, len(seen)))
            if isinstance(slot.reader, Variable):
                low += [ranges[name].low for name in slot.reader.names]
                high += [ranges[name].high for name in slot.reader.names]
            else:
                low += [getattr(weights, "low", 0.0) for weights in slot.reader.weights]
                high += [getattr(weights, "high", 1.0) for weights in slot.reader.weights]
                together = shares.setdefault(slot.reader.weights, [[] for _ in range(n)])
                for control in range(n):
                    together[control].append(first + control)
        self.low, self.high = np.array(low), np.array(high)
        self.shares = [np.array(group) for groups in shares.values() for group in groups]
        self.models, self.positions = np.array(models), np.array(places)
        self.modules, self.is_given = np.zeros(len(seen), np.int64), np.array(given)

    def __len__(self) -> int:
        return len(self.low)

    @property
    def stretches(self) -> tuple[slice, ...]:
        """All of them, as one."""
        return (slice(0, len(self)),)

    def of(self, genotype: Array) -> Array:
        """The weights that a genotype means, shape (n,)."""
        point = self._space.space.decode(genotype)
        found = [_read(slot.reader, point) for _, slot in self._varying()]
        return np.array([value for values in found for value in values])

    def genotype(self, values: Numbers) -> Array:
        """The genotype of weights, each in its range; inverse of :meth:`of`."""
        return np.clip(self._space.space.encode(self._point(values)), 0.0, 1.0)

    def _point(self, values: Numbers) -> dict[str, float]:
        point: dict[str, float] = {}
        of_group: dict[tuple[Any, ...], list[int]] = {}
        for position, slot in self._varying():
            first = self._offsets[position]
            if isinstance(slot.reader, Variable):
                own = values[first : first + len(slot.reader.names)].tolist()
                point.update(zip(slot.reader.names, own, strict=True))
            else:
                of_group.setdefault(slot.reader.weights, []).append(first)
        for group, firsts in of_group.items():
            for control, weights in enumerate(group):
                own = [float(values[first + control]) for first in firsts]
                point.update(zip(weights.names, weights.encode(own), strict=True))
        return point

    def settled(self, values: Numbers) -> Array:
        """The nearest weights that stand in a recipe of the space, or close to them."""
        inside: Array = np.clip(values, self.low, self.high)
        for group in self.shares:
            if (self.low[group] >= 0).all():
                total = inside[group].sum()
                inside[group] = inside[group] / total if total > _NEAR else 1 / len(group)
            else:  # the last follows from the others, which alone have a range
                *first, last = group
                shifted = values[first] + (1 - values[group].sum()) / len(group)
                inside[first] = np.clip(shifted, self.low[first], self.high[first])
                inside[last] = 1 - inside[first].sum()
        return inside

    def recipe(self, values: Numbers) -> Recipe:
        """The recipe with these weights."""
        return self._space.recipe(self._point(values))

    @property
    def serials(self) -> Recipe:
        """A recipe whose weights are serial numbers; it is resolved, never merged."""
        values = [SERIAL + 2.0 * index for index in self._spread()]
        slots = list(self._space.slots)
        for position, slot in self._varying():
            first = self._offsets[position]
            own = values[first : first + _n_controls(slot)]
            slots[position] = replace(slot, reader=own[0] if len(own) == 1 else own)
        return self._space.with_slots(slots).recipe({})

    def _spread(self) -> list[int]:
        """A number for each weight; neighbours follow one another within a slot only."""
        numbers: list[int] = []
        for position, slot in self._varying():
            gap = position  # between the last control point of a slot and the first of the next
            numbers += [self._offsets[position] + gap + c for c in range(_n_controls(slot))]
        return numbers

    def _varying(self) -> Iterable[tuple[int, ValueSlot]]:
        return (
            (position, slot)
            for position, slot in enumerate(self._space.slots)
            if isinstance(slot.reader, (Variable, Coupled))
        )

    def reach(self, resolved: Iterable[tuple[PlannedTensor, Values]]) -> Reach:
        """Where the weights act, from how mergekit resolves :attr:`serials`."""
        index_of = {number: index for index, number in enumerate(self._spread())}
        rows = [row_of(tensor, values, index_of) for tensor, values in resolved]
        return Reach.of(rows, len(self))


def _n_controls(slot: ValueSlot) -> int:
    reader = slot.reader
    return len(reader.names if isinstance(reader, Variable) else reader.weights)


def _read(reader: Variable | Coupled, point: Point) -> list[float]:
    if isinstance(reader, Variable):
        return [float(point[name]) for name in reader.names]
    return [
        float(weights.decode([point[name] for name in weights.names])[reader.index])
        for weights in reader.weights
    ]

"""The numbers a trainer moves: every weight that varies in a recipe, and where each one acts.

Which tensor a weight reaches is read off mergekit's own resolution of a recipe's parameters:
a recipe whose weights are serial numbers is resolved once, and what arrives at a tensor says
which weights, in which proportion, it is made of.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mergekit.common import ModelReference
from numpy.typing import NDArray

from evomerge.merge_spaces.base import Point
from evomerge.merge_spaces.parameters import ParameterSpace
from evomerge.merge_spaces.slots import Coupled, Slot, Variable
from evomerge.merging.structure import PlannedTensor, Values
from evomerge.recipe import Recipe
from evomerge.space import Real

Array = NDArray[np.float64]
_SERIAL = 1e6  # serial numbers begin here: no weight is as large
_NEAR = 1e-6  # of a serial number: how far a weight is between two control points
_SMALL_DIVISOR = 1e-8  # mergekit's: smaller sums of weights do not divide


class Coefficients:
    """The weights that vary, one after the other: slot by slot, control point by control point.

    Args:
        space: Only weights vary in it.

    Attributes:
        low: Smallest value of each, shape (n,).
        high: Largest value of each, shape (n,).
        shares: Indices of the weights that sum to 1 together, one array per such group.
        models: Which input each is the weight of, shape (n,).
        places: Which place of the recipe, equal for the models that meet there, shape (n,).
    """

    def __init__(self, space: ParameterSpace) -> None:
        self._space = space
        self._offsets: dict[int, int] = {}  # slot -> index of its first value
        ranges = {p.name: p for p in space.space if isinstance(p, Real)}
        low: list[float] = []
        high: list[float] = []
        shares: dict[tuple[Any, ...], list[list[int]]] = {}
        models: list[int] = []
        places: list[int] = []
        seen: dict[tuple[int, str | None, int], int] = {}
        for position, slot in self._varying():
            n = _n_controls(slot)
            self._offsets[position] = first = len(low)
            models += [space.inputs.models.index(slot.model)] * n
            for control in range(n):
                place = (slot.slice, slot.filter, control)
                places.append(seen.setdefault(place, len(seen)))
            if isinstance(slot.reader, Variable):
                low += [ranges[name].low for name in slot.reader.names]
                high += [ranges[name].high for name in slot.reader.names]
            else:
                bounds = [getattr(weights, "high", None) for weights in slot.reader.weights]
                low += [0.0 if bound is None else -bound for bound in bounds]
                high += [1.0 if bound is None else bound for bound in bounds]
                together = shares.setdefault(slot.reader.weights, [[] for _ in range(n)])
                for control in range(n):
                    together[control].append(first + control)
        self.low, self.high = np.array(low), np.array(high)
        self.shares = [np.array(group) for groups in shares.values() for group in groups]
        self.models, self.places = np.array(models), np.array(places)

    def __len__(self) -> int:
        return len(self.low)

    def of(self, genotype: Array) -> Array:
        """The weights that a genotype means, shape (n,)."""
        point = self._space.space.decode(genotype)
        found = [_read(slot.reader, point) for _, slot in self._varying()]
        return np.array([value for values in found for value in values])

    def genotype(self, values: Array) -> Array:
        """The genotype of weights, each in its range; inverse of :meth:`of`."""
        return np.clip(self._space.space.encode(self._point(values)), 0.0, 1.0)

    def _point(self, values: Array) -> dict[str, float]:
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

    def settled(self, values: Array) -> Array:
        """The nearest weights that stand in a recipe of the space, or close to them."""
        inside = np.clip(values, self.low, self.high)
        for group in self.shares:
            total = inside[group].sum()
            if (self.low[group] >= 0).all():
                inside[group] = inside[group] / total if total > _NEAR else 1 / len(group)
            else:  # the last follows from the others, which have a range
                *first, last = group
                shifted = inside[first] + (1 - total) / len(group)
                inside[first] = np.clip(shifted, self.low[first], self.high[first])
                inside[last] = 1 - inside[first].sum()
        return inside

    def recipe(self, values: Array) -> Recipe:
        """The recipe with these weights."""
        return self._space.recipe(self._point(values))

    @property
    def serials(self) -> Recipe:
        """A recipe whose weights are serial numbers; it is resolved, never merged."""
        values = [_SERIAL + 2.0 * index for index in self._spread()]
        numbered = copy.copy(self._space)
        slots = list(self._space.slots)
        for position, slot in self._varying():
            first = self._offsets[position]
            own = values[first : first + _n_controls(slot)]
            slots[position] = replace(slot, reader=own[0] if len(own) == 1 else own)
        numbered.slots, numbered._slots_at = slots, {}
        for slot in slots:
            numbered._slots_at.setdefault((slot.model, slot.slice), []).append(slot)
        return numbered.recipe({})

    def _spread(self) -> list[int]:
        """A number for each weight; neighbours follow one another within a slot only."""
        numbers: list[int] = []
        for position, slot in self._varying():
            gap = position  # between the last control point of a slot and the first of the next
            numbers += [self._offsets[position] + gap + c for c in range(_n_controls(slot))]
        return numbers

    def _varying(self) -> Iterable[tuple[int, Slot]]:
        return (
            (position, slot)
            for position, slot in enumerate(self._space.slots)
            if isinstance(slot.reader, (Variable, Coupled))
        )

    def reach(self, resolved: Iterable[tuple[PlannedTensor, Values]]) -> Reach:
        """Where the weights act, from how mergekit resolves :attr:`serials`."""
        index_of = {number: index for index, number in enumerate(self._spread())}
        rows = [_row(tensor, values, index_of) for tensor, values in resolved]
        return Reach.of(rows, len(self))


def _n_controls(slot: Slot) -> int:
    reader = slot.reader
    return len(reader.names if isinstance(reader, Variable) else reader.weights)


def _read(reader: Variable | Coupled, point: Point) -> list[float]:
    if isinstance(reader, Variable):
        return [float(point[name]) for name in reader.names]
    return [
        float(weights.decode([point[name] for name in weights.names])[reader.index])
        for weights in reader.weights
    ]


@dataclass(frozen=True)
class _Input:
    """What one weight of one tensor is made of: value ``first``, value ``first + 1``, a number."""

    model: ModelReference
    first: int | None
    fraction: float
    constant: float


@dataclass(frozen=True)
class _Row:
    """One tensor: its weights and what the method makes of them."""

    tensor: PlannedTensor
    inputs: tuple[_Input, ...]
    is_normalized: bool
    scale: float


def _row(tensor: PlannedTensor, values: Values, index_of: Mapping[int, int]) -> _Row:
    weighted = {
        model: float(settings["weight"])
        for model, settings in values.per_input.items()
        if "weight" in settings
    }
    inputs = tuple(_input(model, weight, index_of) for model, weight in weighted.items())
    scale = float(values.shared.get("lambda", 1.0))
    return _Row(tensor, inputs, bool(values.shared.get("normalize")), scale)


def _input(model: ModelReference, weight: float, index_of: Mapping[int, int]) -> _Input:
    if weight < _SERIAL:
        return _Input(model, None, 0.0, weight)
    number = (weight - _SERIAL) / 2
    first = int(number + _NEAR)
    fraction = number - first
    return _Input(model, index_of[first], fraction if fraction > _NEAR else 0.0, 0.0)


@dataclass(frozen=True)
class Reach:
    """Weights that vary -> what multiplies each input of each tensor.

    Attributes:
        tensors: Those of the recipe, in its order.
        models: The inputs of each, base aside where the method measures from one.
        moves: Per tensor, whether a weight that varies acts on it.
        n_values: How many weights vary.
    """

    tensors: tuple[PlannedTensor, ...]
    models: tuple[tuple[ModelReference, ...], ...]
    moves: tuple[bool, ...]
    n_values: int
    _first: torch.Tensor
    _second: torch.Tensor
    _fraction: torch.Tensor
    _constant: torch.Tensor
    _normalized: torch.Tensor
    _scale: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[_Row], n_values: int) -> Reach:
        """From what is known of each tensor."""
        width = max(len(row.inputs) for row in rows)
        shape = (len(rows), width)
        first = torch.full(shape, n_values)  # one behind the last value stands for 0
        second, fraction = first.clone(), torch.zeros(shape, dtype=torch.float64)
        constant = torch.zeros(shape, dtype=torch.float64)
        for i, row in enumerate(rows):
            for j, one in enumerate(row.inputs):
                constant[i, j] = one.constant
                if one.first is not None:
                    first[i, j] = one.first
                    fraction[i, j] = one.fraction
                    second[i, j] = one.first + (one.fraction > 0)
        return cls(
            tuple(row.tensor for row in rows),
            tuple(tuple(one.model for one in row.inputs) for row in rows),
            tuple(any(one.first is not None for one in row.inputs) for row in rows),
            n_values,
            first,
            second,
            fraction,
            constant,
            torch.tensor([row.is_normalized for row in rows]),
            torch.tensor([row.scale for row in rows], dtype=torch.float64),
        )

    def multipliers(self, values: torch.Tensor) -> torch.Tensor:
        """What multiplies each input, shape (tensors, most inputs); differentiable.

        Args:
            values: Shape (n,), float64.
        """
        padded = torch.cat([values, values.new_zeros(1)])
        weights = (1 - self._fraction) * padded[self._first]
        weights = weights + self._fraction * padded[self._second] + self._constant
        total = weights.sum(dim=1, keepdim=True)
        divides = self._normalized[:, None] & (total.abs() >= _SMALL_DIVISOR)
        weights = torch.where(divides, weights / torch.where(divides, total, 1.0), weights)
        return weights * self._scale[:, None]

    def acting(self, index: int) -> dict[int, int]:
        """Which inputs of a tensor have a weight that varies, and its index (or the first's)."""
        found = enumerate(self._first[index].tolist())
        return {place: value for place, value in found if value < self.n_values}

    def is_normalized(self, index: int) -> bool:
        """Whether the multipliers of a tensor sum to a constant."""
        return bool(self._normalized[index])

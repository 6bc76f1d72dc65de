"""From the weights of a recipe to the factor of every tensor, or of every input column of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mergekit.common import ModelReference
from numpy.typing import NDArray

from evomerge.foundations.threads import one_thread
from evomerge.merging.structure import PlannedTensor
from evomerge.merging.values import Values

Array = NDArray[np.float64]
SERIAL = 1e6  # serial numbers begin here: no weight is as large
NEAR = 1e-6  # of a serial number: how far a weight is between two control points
_SMALL_DIVISOR = 1e-8  # mergekit's: smaller sums of weights do not divide


@dataclass(frozen=True)
class Input:
    """What one weight of one tensor is made of: value ``first``, value ``first + 1``, a number."""

    model: ModelReference
    first: int | None
    fraction: float
    constant: float


@dataclass(frozen=True)
class TensorRow:
    """One tensor: its weights and what the method makes of them."""

    tensor: PlannedTensor
    inputs: tuple[Input, ...]
    is_normalized: bool
    scale: float


def row_of(tensor: PlannedTensor, values: Values, index_of: Mapping[int, int]) -> TensorRow:
    """From how mergekit resolves serial numbers, and which value each stands for."""
    weighted = {
        model: float(settings["weight"])
        for model, settings in values.per_input.items()
        if "weight" in settings
    }
    inputs = tuple(_input(model, weight, index_of) for model, weight in weighted.items())
    scale = float(values.shared.get("lambda", 1.0))
    return TensorRow(tensor, inputs, bool(values.shared.get("normalize")), scale)


def _input(model: ModelReference, weight: float, index_of: Mapping[int, int]) -> Input:
    if weight < SERIAL:
        return Input(model, None, 0.0, weight)
    number = (weight - SERIAL) / 2
    first = int(number + NEAR)
    fraction = number - first
    return Input(model, index_of[first], fraction if fraction > NEAR else 0.0, 0.0)


def _divided(weights: torch.Tensor, divides: torch.Tensor, dim: int) -> torch.Tensor:
    """Weights over their sum, where they are divided and the sum is not too small."""
    total = weights.sum(dim=dim, keepdim=True)
    divides = divides & (total.abs() >= _SMALL_DIVISOR)
    return torch.where(divides, weights / torch.where(divides, total, 1.0), weights)


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
    def of(cls, rows: Sequence[TensorRow], n_values: int) -> Reach:
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

    @property
    def varies(self) -> torch.Tensor:
        """Whether the weight of each input varies, shape (tensors, most inputs)."""
        return self._first < self.n_values

    def weights(self, values: torch.Tensor) -> torch.Tensor:
        """The weight of each input, shape (tensors, most inputs); differentiable.

        Args:
            values: Shape (n,), float64.
        """
        padded = torch.cat([values, values.new_zeros(1)])
        weights = (1 - self._fraction) * padded[self._first]
        return weights + self._fraction * padded[self._second] + self._constant

    def multipliers(self, values: torch.Tensor) -> torch.Tensor:
        """What multiplies each input, shape (tensors, most inputs); differentiable.

        Args:
            values: Shape (n,), float64.
        """
        weights = _divided(self.weights(values), self._normalized[:, None], dim=1)
        return weights * self._scale[:, None]

    def multipliers_of(self, index: int, weights: torch.Tensor, divides: bool) -> torch.Tensor:
        """What multiplies each input of one tensor; differentiable.

        Args:
            index: Of the tensor.
            weights: Shape (inputs, columns), columns independent of one another.
            divides: Whether weights are divided by their sum.
        """
        return _divided(weights, torch.tensor(divides), dim=0) * self._scale[index].to(weights)

    def nearest(self, weights: torch.Tensor, start: Array) -> Array:
        """The values whose weights of the tensors are nearest to some, shape (n,).

        Args:
            weights: Shape (tensors, most inputs); nan where any will do.
            start: Shape (n,); values that act nowhere stay there.
        """
        rows, columns = torch.nonzero(self.varies & ~weights.isnan(), as_tuple=True)
        acts = torch.zeros(len(rows), self.n_values + 1, dtype=torch.float64)
        fraction, each = self._fraction[rows, columns], torch.arange(len(rows))
        acts[each, self._first[rows, columns]] = 1 - fraction
        acts[each, self._second[rows, columns]] += fraction
        missing = (weights - self.weights(torch.from_numpy(start)))[rows, columns]
        with one_thread():
            found = np.linalg.lstsq(acts[:, : self.n_values].numpy(), missing.numpy(), rcond=None)
        return np.asarray(start + found[0])

    def bounds(self, low: Array, high: Array) -> tuple[torch.Tensor, torch.Tensor]:
        """The least and the largest weight of each input, from those of the values."""
        return self.weights(torch.from_numpy(low)), self.weights(torch.from_numpy(high))

    def acting(self, index: int) -> dict[int, int]:
        """Which inputs of a tensor have a weight that varies, and its index (or the first's)."""
        found = enumerate(self._first[index].tolist())
        return {place: value for place, value in found if value < self.n_values}

    def is_normalized(self, index: int) -> bool:
        """Whether the multipliers of a tensor sum to a constant."""
        return bool(self._normalized[index])

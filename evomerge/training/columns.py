"""One number per input column of every tensor and source: what DAM proper trains.

Source: Gauthier-Caron et al., Merging in a bottle: differentiable adaptive merging (2024),
arXiv:2410.08371, section 3.1.
Differs: numbers in float32; embeddings and norms are trained too, and a head of its own is. A
range that the genome gives holds, as does a division by the sum of the weights that it asks for;
else the numbers are free, as the original's are. A column of an average whose numbers all are 0
begins anew at the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from mergekit.common import ModelReference
from numpy.typing import NDArray
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from evomerge.merging.structure import PlannedTensor
from evomerge.training.coefficients import Coefficients, Numbers
from evomerge.training.reach import Reach

Array = NDArray[np.float64]
BLOCK = 1 << 20  # elements in float32 at a time
_FREE = 1e30  # as good as no limit; 0 times it is 0
_NEAR = 1e-6  # a column of smaller numbers is as good as none


@dataclass(frozen=True)
class Table:
    """A tensor as a table whose columns are multiplied one by one.

    A matrix has its input columns (a table of embeddings its hidden dimensions), a norm its
    elements, the bias of a matrix one column.

    Attributes:
        width: Columns.
        is_turned: Whether the tensor holds its input columns as rows.
    """

    width: int
    is_turned: bool = False

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A view of a tensor, shape (rows, width)."""
        return tensor.T if self.is_turned else tensor.reshape(-1, self.width)

    def blocks(self, n_rows: int) -> Iterator[slice]:
        """The rows, some at a time."""
        size = max(BLOCK // self.width, 1)
        return (slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size))


def tables_of(homes: Mapping[str, torch.Tensor], module: PreTrainedModel) -> dict[str, Table]:
    """The table of each tensor of a live model.

    Args:
        homes: Its tensors by name.
        module: The model.
    """
    turned = {id(part.weight) for part in module.modules() if isinstance(part, Conv1D)}
    tables = {}
    for name, home in homes.items():
        weight = homes.get(f"{name.removesuffix('bias')}weight")
        if home.ndim == 1 and name.endswith(".bias") and weight is not None and weight.ndim > 1:
            tables[name] = Table(1)
        elif id(home) in turned:
            tables[name] = Table(home.shape[0], is_turned=True)
        else:
            tables[name] = Table(home.shape[-1] if home.ndim else 1)
    return tables


@dataclass(frozen=True)
class Place:
    """One tensor whose columns have numbers.

    Attributes:
        index: Its row in the reach.
        tensor: It, with its sources.
        models: Its sources; one row of weights each.
        table: Its columns.
        first: Index of its first number.
        acting: Which of the sources have numbers, and which weight of the space each is.
        divides: Whether its numbers are divided by their sum, column by column.
    """

    index: int
    tensor: PlannedTensor
    models: tuple[ModelReference, ...]
    table: Table
    first: int
    acting: Mapping[int, int]
    divides: bool

    @property
    def is_average(self) -> bool:
        """Whether it is made of nothing but sources that have numbers."""
        is_linear = self.tensor.task.method_name == "linear"
        return is_linear and len(self.acting) == len(self.models)

    @property
    def stretch(self) -> slice:
        """Where its numbers are: source by source, column by column."""
        return slice(self.first, self.first + len(self.acting) * self.table.width)


class Columns:
    """The numbers of all columns, one after the other: tensor by tensor, source by source.

    Args:
        coefficients: The weights of the space, where the numbers begin.
        reach: Where those act.
        tables: The table of each tensor that is trained.

    Attributes:
        places: The tensors.
        models: Which input each number is a weight of, shape (n,).
        positions: Which column of which tensor, equal for the models that meet there, shape (n,).
        modules: Of which tensor each position is, shape (positions,).
        stretches: The numbers of one source and tensor, for each.
    """

    def __init__(
        self, coefficients: Coefficients, reach: Reach, tables: Mapping[str, Table]
    ) -> None:
        self.coefficients, self.reach = coefficients, reach
        self.places: list[Place] = []
        first = 0
        for index, tensor in enumerate(reach.tensors):
            table = tables.get(tensor.name)
            if reach.moves[index] and table is not None:
                acting, models = reach.acting(index), reach.models[index]
                # Some shares of a sum and some fixed weights cannot be free of one another.
                divides = reach.is_normalized(index) and (
                    coefficients.gives_normalize or len(acting) < len(models)
                )
                place = Place(index, tensor, models, table, first, acting, divides)
                self.places.append(place)
                first = place.stretch.stop
        self._n = first
        self._low, self._high = self._bounds()
        self._fixed = reach.weights(torch.zeros(len(coefficients), dtype=torch.float64))
        self.models, self.positions, self.modules = self._meetings()

    def __len__(self) -> int:
        return self._n

    @property
    def stretches(self) -> tuple[slice, ...]:
        """See the class."""
        return tuple(
            slice(start, start + place.table.width)
            for place in self.places
            for start in range(place.stretch.start, place.stretch.stop, place.table.width)
        )

    def _bounds(self) -> tuple[Numbers, Numbers]:
        """The least and the largest of each number; ranges that only a table gives bind no one."""
        coefficients, given = self.coefficients, self.coefficients.is_given
        own = self.reach.bounds(coefficients.low, coefficients.high)
        low = np.where(given, coefficients.low, -_FREE)
        high = np.where(given, coefficients.high, _FREE)
        bounds = [self._spread(weights) for weights in self.reach.bounds(low, high)]
        bound = [self._spread(weights) for weights in own]
        for place in self.places:
            if place.divides:  # whose common scale must stay somewhere
                for free, fixed in zip(bounds, bound, strict=True):
                    free[place.stretch] = fixed[place.stretch]
        return bounds[0], bounds[1]

    def _meetings(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        models, positions = np.empty(self._n, np.int64), np.empty(self._n, np.int64)
        widths = [place.table.width for place in self.places]
        n_columns = 0
        for place in self.places:
            owners = [self.coefficients.models[value] for value in place.acting.values()]
            width = place.table.width
            models[place.stretch] = np.repeat(owners, width)
            own = np.arange(n_columns, n_columns + width)
            positions[place.stretch] = np.tile(own, len(owners))
            n_columns += width
        return models, positions, np.repeat(np.arange(len(widths)), widths)

    def _spread(self, weights: torch.Tensor) -> Numbers:
        """The same number for all columns of a source and tensor, shape (n,)."""
        found = np.empty(self._n, np.float32)
        for place in self.places:
            own = weights[place.index, list(place.acting)].numpy()
            found[place.stretch] = np.repeat(own, place.table.width)
        return found

    def of(self, genotype: Array) -> Numbers:
        """The numbers where a genotype says to begin, shape (n,)."""
        start = self.coefficients.settled(self.coefficients.of(genotype))
        return self._spread(self.reach.weights(torch.from_numpy(start)))

    def settled(self, values: Numbers) -> Numbers:
        """The nearest numbers in their ranges; no column of an average is without any."""
        settled = np.clip(values, self._low, self._high)
        for place in self.places:
            if place.is_average:
                own = self.rows(settled, place)
                own[:, np.abs(own).max(axis=0) <= _NEAR] = 1 / len(own)
        return settled

    def genotype(self, values: Numbers) -> Array:
        """The genotype nearest to the mean of the columns of each tensor and source."""
        start = (self.coefficients.low + self.coefficients.high) / 2
        weights = self.reach.weights(torch.from_numpy(start)).clone()
        for place in self.places:
            table = self.rows(values, place).astype(np.float64)
            weights[place.index, list(place.acting)] = torch.from_numpy(table.mean(axis=1))
        found = self.coefficients.settled(self.reach.nearest(weights, start))
        return self.coefficients.genotype(found)

    def rows(self, values: Numbers, place: Place) -> Numbers:
        """The numbers of one tensor, shape (sources that have some, columns)."""
        return values[place.stretch].reshape(len(place.acting), place.table.width)

    def multipliers(self, values: torch.Tensor, place: Place) -> torch.Tensor:
        """What multiplies each column of each source of a tensor, (sources, columns).

        Args:
            values: Shape (n,); the result is differentiable by them, and of their dtype.
            place: The tensor.
        """
        return self.multipliers_of(values[place.stretch], place)

    def multipliers_of(self, own: torch.Tensor, place: Place) -> torch.Tensor:
        """The same from the numbers of that tensor alone."""
        width = place.table.width
        own = own.reshape(len(place.acting), width)
        rows = [
            self._fixed[place.index, row].to(own).expand(width) for row in range(len(place.models))
        ]
        for row, found in zip(place.acting, own, strict=True):
            rows[row] = found
        return self.reach.multipliers_of(place.index, torch.stack(rows), place.divides)

    def tensors(self, values: Numbers) -> dict[str, torch.Tensor]:
        """What multiplies each column, by source and tensor, as a file of them holds it."""
        found = {}
        for place in self.places:
            table = self.multipliers(torch.from_numpy(values), place)
            for model, row in zip(place.models, table, strict=True):
                found[f"{place.tensor.name}:{model}"] = row.contiguous()
        return found

"""The live model as a function of a weight per tensor and source, whatever the space has.

Each is a weight of a recipe with a filter per tensor, which needs no checkpoint. In the space that
is searched stands what comes nearest: the mean over the tensors that a weight of it acts on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evomerge.merging.resident import ResidentMerger
from evomerge.training.coefficients import Coefficients, Numbers
from evomerge.training.mixture import Mixture
from evomerge.training.reach import Reach

Array = NDArray[np.float64]


class TensorMixture(Mixture):
    """One merger's live model under weights of tensors that can be trained.

    Args:
        merger: Holds the sources and the live model.
        space: The weights of the space that is searched.
        tensors: Those of the space by tensor, which are trained.
    """

    def __init__(self, merger: ResidentMerger, space: Coefficients, tensors: Coefficients) -> None:
        super().__init__(merger, tensors)
        self.trained = Tensors(tensors, self.reach, space, Mixture(merger, space).reach)

    def config(self, values: Numbers) -> dict[str, Any]:
        """See :class:`Mixture`."""
        return dict(self.coefficients.recipe(values).config)


class Tensors:
    """The weights of tensors, which begin and end at a genotype of another space.

    Args:
        own: They themselves.
        reach: Where they act.
        space: The weights of the other space.
        space_reach: Where those act.

    Attributes:
        models: See :class:`evomerge.training.coefficients.Trained`, like the others.
    """

    def __init__(
        self, own: Coefficients, reach: Reach, space: Coefficients, space_reach: Reach
    ) -> None:
        self._own, self._reach = own, reach
        self._space, self._space_reach = space, space_reach
        self.models, self.positions, self.modules = own.models, own.positions, own.modules

    @property
    def stretches(self) -> tuple[slice, ...]:
        """See the class."""
        return self._own.stretches

    def of(self, genotype: Array) -> Array:
        """The weights that a genotype gives each tensor, shape (n,)."""
        start = self._space.settled(self._space.of(genotype))
        weights = self._space_reach.weights(torch.from_numpy(start))
        carried = _carried(weights, self._space_reach, self._reach)
        return self.settled(self._reach.nearest(carried, _middle(self._own)))

    def settled(self, values: Numbers) -> Array:
        """The nearest that the genome allows."""
        return self._own.settled(values)

    def genotype(self, values: Numbers) -> Array:
        """The genotype nearest to the weights of the tensors."""
        weights = self._reach.weights(torch.from_numpy(np.asarray(values, np.float64)))
        # The weight of a model changes nothing where it is equal to another: it says nothing.
        said = torch.where(self._reach.varies, weights, torch.nan)
        carried = _carried(said, self._reach, self._space_reach)
        found = self._space_reach.nearest(carried, _middle(self._space))
        return self._space.genotype(self._space.settled(found))


def _middle(coefficients: Coefficients) -> Array:
    return np.asarray((coefficients.low + coefficients.high) / 2)


def _carried(weights: torch.Tensor, first: Reach, second: Reach) -> torch.Tensor:
    """The weights of the inputs of tensors, as another recipe of the same models orders them."""
    row_of = {tensor.name: row for row, tensor in enumerate(first.tensors)}
    found = torch.full(tuple(second.varies.shape), torch.nan, dtype=torch.float64)
    for row, tensor in enumerate(second.tensors):
        own = row_of[tensor.name]
        at = {model: column for column, model in enumerate(first.models[own])}
        columns = [at[model] for model in second.models[row]]
        found[row, : len(columns)] = weights[own, columns]
    return found

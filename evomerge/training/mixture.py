"""The live model as a function of the weights of a recipe, and its derivative.

Weights are written by the resident merger itself, so what is trained is what a trial scores.
Its parameters are plain leaf tensors: there is one model and, for a moment, the gradient of one
tensor. That gradient is turned into a number per source as soon as it is ready and given back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from mergekit.common import ModelReference
from numpy.typing import NDArray

from evomerge.foundations.errors import RunError
from evomerge.merging.hub_cache import reachable
from evomerge.merging.live_model import LiveModel
from evomerge.merging.resident import ResidentMerger
from evomerge.merging.structure import PlannedTensor, Structure
from evomerge.recipe.plain import Recipe
from evomerge.training.coefficients import Coefficients, Numbers, Trained
from evomerge.training.reach import Reach

Array = NDArray[np.float64]
BLOCK = 1 << 20  # elements in float32 at a time


class Mixture:
    """One merger's live model under weights that can be trained.

    Args:
        merger: Holds the sources and the live model.
        coefficients: What varies.

    Attributes:
        trained: What is trained; here the same.
    """

    def __init__(self, merger: ResidentMerger, coefficients: Coefficients) -> None:
        self.merger = merger
        self.coefficients = coefficients
        self.trained: Trained = coefficients
        structure = self._structure()
        self.reach: Reach = coefficients.reach(structure.values(reachable(coefficients.serials)))
        self._sums = torch.zeros(0)

    def _structure(self) -> Structure:
        """The plan all recipes of the space share."""
        recipe = self.coefficients.recipe(self.coefficients.settled(self.coefficients.low))
        return self.merger.structure(recipe)

    @property
    def device(self) -> torch.device:
        """Where the live model is."""
        return self.merger.device

    def at(self, values: Numbers) -> LiveModel:
        """The model merged with these weights; overwrites the one before."""
        return self.merger.merge(self.coefficients.recipe(values))

    def config(self, values: Numbers) -> dict[str, Any] | None:
        """The recipe of these weights where no point of the space means it."""
        return None

    def of(self, recipe: Recipe) -> LiveModel:
        """The model of any recipe of the same models, in the same place."""
        return self.merger.merge(recipe)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, every backward pass adds to what :meth:`gradient` returns.

        Raises:
            RunError: the model's tensors are not those of the checkpoint.
        """
        homes = self._homes()
        self._clear(next(iter(homes.values())).device)
        hooks = []
        for index, tensor in enumerate(self.reach.tensors):
            home = homes.get(tensor.name)
            if self.reach.moves[index] and home is not None and home.is_floating_point():
                home.requires_grad_(True)
                hear: Any = home.register_post_accumulate_grad_hook
                hooks.append(hear(partial(self._add, index)))
        try:
            with torch.enable_grad():
                yield
        finally:
            for hook in hooks:
                hook.remove()
            for home in homes.values():
                if home.is_floating_point():
                    home.requires_grad_(False)
                    home.grad = None

    def _clear(self, device: torch.device) -> None:
        """Forgets what was booked."""
        width = max(map(len, self.reach.models))
        self._sums = torch.zeros(len(self.reach.tensors), width, dtype=torch.float64, device=device)

    def _homes(self) -> Mapping[str, torch.Tensor]:
        homes = self.merger.homes
        if homes is None:
            raise RunError(
                "transformers fuses or renames the tensors of this architecture, so that their "
                "gradients are not those of the sources",
                where="optimizer.name",
                fix="Use cma_es.",
            )
        return homes

    def _add(self, index: int, home: torch.Tensor) -> None:
        """Books the gradient of one tensor and frees it."""
        gradient, home.grad = home.grad, None
        if gradient is None:
            return
        tensor, models = self.reach.tensors[index], self.reach.models[index]
        origin = origin_of(tensor, models, is_normalized=self.reach.is_normalized(index))
        with torch.no_grad():
            self._sums[index, : len(models)] += _products(gradient, tensor, models, origin)

    def gradient(self, values: Numbers) -> Array:
        """The sum of the derivatives booked while listening, by the weights, shape (n,)."""
        leaves = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            moved = (self.reach.multipliers(leaves) * self._sums.cpu()).sum()
        (found,) = torch.autograd.grad(moved, leaves)
        return np.array(found.numpy())

    def angles(self) -> torch.Tensor:
        """How far task vectors are from parallel and from orthogonal, where they meet.

        Returns:
            ``sin^2(2 theta)`` per pair of models and place, shape (pairs, places).
        """
        owners, places = self.coefficients.models, self.coefficients.positions
        order = {owner: row for row, owner in enumerate(np.unique(owners).tolist())}
        grams = torch.zeros(int(places.max()) + 1, len(order), len(order), dtype=torch.float64)
        for index, tensor in enumerate(self.reach.tensors):
            acting = self.reach.acting(index)  # input -> index of its weight
            if len(acting) == len(order):
                rows = [order[int(owners[value])] for value in acting.values()]
                models = [self.reach.models[index][place] for place in acting]
                place = int(places[next(iter(acting.values()))])
                grams[place][np.ix_(rows, rows)] += _gram(tensor, models)
        lengths = torch.diagonal(grams, dim1=1, dim2=2).sqrt()
        cosines = grams / (lengths[:, :, None] * lengths[:, None, :]).clamp_min(1e-30)
        first, second = torch.triu_indices(len(order), len(order), 1)
        found = cosines[:, first, second].T.clamp(-1, 1)
        return 4 * found**2 * (1 - found**2)  # sin(2t) = 2 sin(t) cos(t)


def origin_of(
    tensor: PlannedTensor, models: tuple[ModelReference, ...], *, is_normalized: bool
) -> ModelReference | None:
    """What sources are measured from; None: from zero.

    Where multipliers sum to a constant, any origin gives the same derivative; a near one loses
    fewer digits.
    """
    base: ModelReference | None = tensor.task.base_model
    if tensor.task.method_name != "linear":
        return base
    return models[0] if is_normalized else None


def _products(
    gradient: torch.Tensor,
    tensor: PlannedTensor,
    models: tuple[ModelReference, ...],
    origin: ModelReference | None,
) -> torch.Tensor:
    """Inner products of a gradient with each source less the origin, shape (models,), float64."""
    stored = {model: entry[0] for model, entry in tensor.inputs.stored().items()}
    flat = gradient.reshape(-1)
    found = torch.zeros(len(models), dtype=torch.float64, device=gradient.device)
    for start in range(0, flat.numel(), BLOCK):
        part = slice(start, start + BLOCK)
        slope = flat[part].float()
        zero = None if origin is None else _block(stored[origin], part, slope)
        for index, model in enumerate(models):
            if model in stored and model != origin:
                source = _block(stored[model], part, slope)
                found[index] += slope @ (source if zero is None else source - zero)
    tensor.inputs.release()
    return found


def _gram(tensor: PlannedTensor, models: list[ModelReference]) -> torch.Tensor:
    """Inner products of the task vectors of a tensor, shape (models, models), float64."""
    stored = {model: entry[0] for model, entry in tensor.inputs.stored().items()}
    base = stored[tensor.task.base_model]
    found = torch.zeros(len(models), len(models), dtype=torch.float64)
    for start in range(0, base.numel(), BLOCK):
        part = slice(start, start + BLOCK)
        zero = base.reshape(-1)[part].float()
        vectors = torch.stack([_block(stored[model], part, zero) - zero for model in models])
        found += (vectors @ vectors.T).cpu()
    tensor.inputs.release()
    return found


def _block(source: torch.Tensor, part: slice, like: torch.Tensor) -> torch.Tensor:
    return source.reshape(-1)[part].to(like)

"""The live model as a function of a number per input column and source, and its derivative."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mergekit.io.tensor_writer import TensorWriter
from numpy.typing import NDArray
from safetensors.torch import save_file

from evomerge.merging.kernels.engine import Merged, TensorOrigin
from evomerge.merging.live_model import LiveModel
from evomerge.merging.resident import ResidentMerger
from evomerge.training.coefficients import Coefficients, Numbers
from evomerge.training.columns import Columns, Place, tables_of
from evomerge.training.mixture import Mixture, origin_of
from evomerge.training.written_models import MODEL

Array = NDArray[np.float64]
Seen = Callable[[Merged], None]
COEFFICIENTS = "coefficients.safetensors"
SHARD_BYTES = 1_000_000_000  # held in memory while a checkpoint is written


class ColumnMixture(Mixture):
    """One merger's live model under numbers of columns that can be trained.

    Args:
        merger: Holds the sources and the live model, which is overwritten.
        coefficients: The weights of the space; the columns of what they act on are trained.
    """

    def __init__(self, merger: ResidentMerger, coefficients: Coefficients) -> None:
        super().__init__(merger, coefficients)
        middle = coefficients.settled((coefficients.low + coefficients.high) / 2)
        self.recipe = coefficients.recipe(middle)  # gives what no weight acts on
        module = super().of(self.recipe).module
        self.columns = self.trained = Columns(
            coefficients, self.reach, tables_of(self._homes(), module)
        )
        self._places = {place.tensor.name: place for place in self.columns.places}
        self._heard: dict[int, torch.Tensor] = {}

    def at(self, values: Numbers, seen: Seen | None = None) -> LiveModel:
        """The model with these numbers; overwrites the one before.

        Args:
            values: Shape (n,).
            seen: Hears of every tensor before it is written.
        """
        numbers = torch.from_numpy(np.asarray(values, np.float32))
        return self.merger.merge(self.recipe, change=partial(self._changed, numbers, seen))

    def save(self, values: Numbers, folder: Path) -> None:
        """Writes the checkpoint of these numbers; beside it what each column is multiplied by."""
        writer = TensorWriter(str(folder / MODEL), max_shard_size=SHARD_BYTES)

        def save(one: Merged) -> None:
            tensor = one.tensor()
            if tensor is not None:
                writer.save_tensor(one.name, tensor.cpu())

        self.at(values, save)
        writer.finalize()
        self.merger.write_frame(self.recipe, folder / MODEL)
        save_file(self.columns.tensors(values), folder / COEFFICIENTS)

    def _changed(
        self, numbers: torch.Tensor, seen: Seen | None, merged: Iterator[Merged]
    ) -> Iterator[Merged]:
        for one in merged:
            place = self._places.get(one.name)
            if place is not None:
                origin = TensorOrigin(one.origin.planned, one.origin.values, is_all=False)
                multipliers = self.columns.multipliers(numbers, place).to(self.device)
                one = ByColumn(origin, place, multipliers)
            if seen is not None:
                seen(one)
            yield one

    def _clear(self, device: torch.device) -> None:
        self._heard = {}

    def _add(self, index: int, home: torch.Tensor) -> None:
        gradient, home.grad = home.grad, None
        if gradient is None:
            return
        place = self._places[self.reach.tensors[index].name]
        with torch.no_grad():
            found = _products(gradient, place)
            known = self._heard.get(index)
            self._heard[index] = found if known is None else known.add_(found)

    def gradient(self, values: Numbers) -> Array:
        """The sum of the derivatives booked while listening, by the numbers, shape (n,)."""
        found = np.zeros(len(self.columns))
        for place in self.columns.places:
            if place.index in self._heard:
                own = torch.from_numpy(np.asarray(values, np.float64)[place.stretch])
                heard = self._heard[place.index].cpu().double()
                found[place.stretch] = self._slope(own, place, heard)
        return found

    def _slope(self, own: torch.Tensor, place: Place, heard: torch.Tensor) -> Array:
        """From the derivative by the multipliers of a tensor to that by its numbers."""
        leaves = own.requires_grad_(True)
        with torch.enable_grad():
            moved = (self.columns.multipliers_of(leaves, place) * heard).sum()
        (slope,) = torch.autograd.grad(moved, leaves)
        return np.asarray(slope.numpy())

    def angles(self) -> torch.Tensor:
        """``sin^2(2 theta)`` per pair of models and column, between columns of task vectors."""
        owners = sorted(set(self.columns.models.tolist()))
        first, second = torch.triu_indices(len(owners), len(owners), 1)
        n_columns = int(self.columns.positions.max()) + 1
        found = torch.zeros(len(first), n_columns, dtype=torch.float64)
        for place in self.columns.places:
            if len(place.acting) == len(owners):
                at = int(self.columns.positions[place.first])
                gram = _gram(place)
                lengths = torch.diagonal(gram, dim1=1, dim2=2).sqrt()
                products = (lengths[:, :, None] * lengths[:, None, :]).clamp_min(1e-30)
                cosines = (gram / products)[:, first, second].T.clamp(-1, 1)
                found[:, at : at + place.table.width] = 4 * cosines**2 * (1 - cosines**2)
        return found


@dataclass(frozen=True, eq=False)
class ByColumn(Merged):
    """A tensor whose sources are multiplied column by column and added, in float32.

    Attributes:
        place: Which, of which sources.
        multipliers: Shape (sources, columns), float32.
    """

    place: Place
    multipliers: torch.Tensor

    def tensor(self) -> torch.Tensor:
        """In memory of its own and its dtype on disk."""
        source, work = next(iter(self.place.tensor.inputs.stored().values()))
        shape = (_n_first(self.place), *source.shape[1:])
        home = torch.empty(shape, dtype=self.stored or work or source.dtype, device=self.device)
        self.write(home)
        return home

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.multipliers.device

    def write(self, home: torch.Tensor) -> bool:
        """Fills the home block by block, each rounded to the dtype on disk first."""
        place, table = self.place, self.place.table
        stored = place.tensor.inputs.stored()
        source, work = next(iter(stored.values()))
        on_disk = self.stored or work or source.dtype
        base = None if place.tensor.task.method_name == "linear" else place.tensor.task.base_model
        target = table.of(home)
        for rows in table.blocks(len(target)):
            origin = None if base is None else _block(stored[base][0], place, rows, home)
            total = torch.zeros_like(target[rows], dtype=torch.float32)
            for model, multiplier in zip(place.models, self.multipliers, strict=True):
                if model in stored:
                    part = _block(stored[model][0], place, rows, home)
                    total += multiplier * (part if origin is None else part - origin)
            target[rows] = (total if origin is None else total + origin).to(on_disk)
        place.tensor.inputs.release()
        return bool(torch.isfinite(home.sum()))


def _n_first(place: Place) -> int:
    """Length of the first axis; tables of embeddings are cut to the shortest."""
    return min(len(source) for source, _ in place.tensor.inputs.stored().values())


def _block(source: torch.Tensor, place: Place, rows: slice, like: torch.Tensor) -> torch.Tensor:
    """Rows of a source's table, in float32 on the device of another tensor."""
    return place.table.of(source)[rows].to(like.device, torch.float32)


def _products(gradient: torch.Tensor, place: Place) -> torch.Tensor:
    """Inner products of the columns of a gradient with those of each source less the origin.

    Returns:
        Shape (sources, columns), float64.
    """
    stored = place.tensor.inputs.stored()
    origin = origin_of(place.tensor, place.models, is_normalized=place.divides)
    slopes = place.table.of(gradient)
    shape = (len(place.models), place.table.width)
    found = torch.zeros(shape, dtype=torch.float64, device=gradient.device)
    for rows in place.table.blocks(len(slopes)):
        slope = slopes[rows].float()
        zero = None if origin is None else _block(stored[origin][0], place, rows, gradient)
        for index, model in enumerate(place.models):
            if model in stored and model != origin:
                source = _block(stored[model][0], place, rows, gradient)
                moved = slope * (source if zero is None else source - zero)
                found[index] += moved.sum(dim=0)
    place.tensor.inputs.release()
    return found


def _gram(place: Place) -> torch.Tensor:
    """Inner products of the columns of task vectors, shape (columns, models, models), float64."""
    stored = place.tensor.inputs.stored()
    base = stored[place.tensor.task.base_model][0]
    models = [place.models[row] for row in place.acting]
    found = torch.zeros(place.table.width, len(models), len(models), dtype=torch.float64)
    n_rows = min(len(place.table.of(source)) for source, _ in stored.values())
    for rows in place.table.blocks(n_rows):
        zero = _block(base, place, rows, base)
        vectors = torch.stack([_block(stored[m][0], place, rows, base) - zero for m in models])
        found += torch.einsum("arc,brc->cab", vectors, vectors).cpu()
    place.tensor.inputs.release()
    return found

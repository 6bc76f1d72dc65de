"""Recipes of several merges: what is made on the way lies in a temporary folder, the last is live.

Each recipe has a merger of its own, so that nothing of its sources is kept, nor taken for those of
the next one; their files are read again, and what is made on the way takes its size on disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from mergekit.io.tensor_writer import TensorWriter

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.scratch import scratch
from evomerge.genome.model_names import ModelName
from evomerge.merging.kernels.engine import Merged
from evomerge.merging.live_model import LiveModel
from evomerge.merging.mergers import Mergers
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.base import RecipeKind
from evomerge.recipe.joined_parts import merges_of_merges
from evomerge.recipe.kept_stages import folded
from evomerge.recipe.plain import Recipe

SHARD_BYTES = 1_000_000_000  # held in memory while a model is written


class StagedMerger:
    """Makes one merge after the other, as ``mergekit-multi`` does.

    Args:
        mergers: Makes mergers of plain merges.
    """

    def __init__(self, mergers: Mergers) -> None:
        self._mergers = mergers

    def merge(self, recipe: Recipe, deadline: Deadline | None = None) -> LiveModel:
        """See :class:`evomerge.merging.base.Merger`."""
        merger, made = self._mergers.make(), recipe.made
        *before, last = map(Recipe, recipe.documents)
        with scratch() as folder:
            there = partial(_below, folder, made)
            for name, stage in zip(made, before, strict=True):
                _write(merger, stage.with_models(there), folder / name, deadline)
            return merger.merge(last.with_models(there), deadline)

    def drop_live(self) -> None:
        """Nothing is kept."""

    def forget_structures(self, coming: Recipe | None = None) -> None:
        """Nothing is kept."""


@contextmanager
def made_before(
    recipe: Recipe, merger: ResidentMerger, deadline: Deadline | None
) -> Iterator[Recipe]:
    """A mixture of experts without the merges that its other merges are made of.

    Args:
        recipe: Of the kind ``moe``.
        merger: Makes them.
        deadline: As for a merge.

    Yields:
        The same with their folders, which last as long.
    """
    names = merges_of_merges(recipe)
    documents = recipe.documents
    with scratch() as folder:
        there, made = partial(_below, folder, names), dict[str, Recipe]()
        for index, name in enumerate(recipe.made):
            if name in names:
                _write(merger, Recipe(documents[index]).with_models(there), folder / name, deadline)
                made[str(folder / name)] = Recipe(
                    RecipeKind.whole(documents[:index], documents[index])
                )
        yield folded(recipe, made)


def _below(folder: Path, made: Collection[str], model: ModelName) -> ModelName:
    """A model in its place below a folder, where it is made on the way."""
    path = str(folder / model.path) if model.path in made else model.path
    return model.model_copy(update={"path": path})


def _write(merger: ResidentMerger, recipe: Recipe, folder: Path, deadline: Deadline | None) -> None:
    """Writes what ``mergekit-yaml`` would build."""
    writer = TensorWriter(str(folder), max_shard_size=SHARD_BYTES)

    def written(merged: Iterator[Merged]) -> Iterator[Merged]:
        for one in merged:
            tensor = one.tensor()
            if tensor is not None:
                writer.save_tensor(one.name, tensor.cpu())
            yield _Held(one.origin, tensor)  # whose random numbers are drawn once
        writer.finalize()

    merger.merge(recipe, deadline, written)
    merger.write_frame(recipe, folder)


@dataclass(frozen=True, eq=False)
class _Held(Merged):
    """A tensor that was merged already."""

    held: torch.Tensor | None

    @property
    def is_left_out(self) -> bool:
        """Whether it is none."""
        return self.held is None

    def tensor(self) -> torch.Tensor | None:
        """It."""
        return self.held

    def write(self, home: torch.Tensor) -> bool:
        """Copies it."""
        if self.held is not None:
            home.copy_(self.held)
        return bool(torch.isfinite(home.sum()))

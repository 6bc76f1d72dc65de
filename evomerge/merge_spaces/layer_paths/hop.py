"""Paths: the layers that run, one after the other, and the recipe that stacks them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from evomerge.foundations.errors import Problem
from evomerge.merge_spaces.layer_paths.layer_settings import LayerSettings
from evomerge.nouns.space import Parameter, Point
from evomerge.recipe.plain import rounded


@dataclass(frozen=True)
class Hop:
    """One layer that runs.

    Attributes:
        model: Index of its model.
        layer: Which of the model's layers.
        weight: What everything that it adds to the residual stream is multiplied by, > 0.
    """

    model: int
    layer: int
    weight: float = 1.0

    def weighted(self, factor: float) -> Hop:
        """The same with its weight multiplied."""
        return replace(self, weight=self.weight * factor)


Path = tuple[Hop, ...]


def identity(model: int, n_layers: int) -> Path:
    """All layers of one model as they are."""
    return tuple(Hop(model, layer) for layer in range(n_layers))


def slices_of(
    path: Path, models: Sequence[str | dict[str, Any]], adds: Sequence[str]
) -> list[dict[str, Any]]:
    """The slices of a ``passthrough`` recipe that runs a path; layers in a row are one slice.

    Args:
        path: At least one hop.
        models: As recipes name them.
        adds: Texts in the names of the tensors that give what a layer adds to the stream.
    """
    slices = []
    for run in _runs(path):
        source: dict[str, Any] = {
            "model": models[run[0].model],
            "layer_range": [run[0].layer, run[-1].layer + 1],
        }
        weight = rounded(run[0].weight)
        if weight != 1.0:
            scale: list[dict[str, Any]] = [{"filter": name, "value": weight} for name in adds]
            source["parameters"] = {"scale": [*scale, {"value": 1.0}]}
        slices.append({"sources": [source]})
    return slices


def _runs(path: Path) -> list[list[Hop]]:
    """A path cut where the next hop is not the next layer, or has another weight."""
    runs = [[path[0]]]
    for before, hop in pairwise(path):
        if hop == replace(before, layer=before.layer + 1):
            runs[-1].append(hop)
        else:
            runs.append([hop])
    return runs


@dataclass(frozen=True)
class PathModels:
    """The models whose layers paths run.

    Attributes:
        names: What they are called in parameters.
        texts: As the genome names them.
        depths: Layers of each.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    depths: tuple[int, ...]


class Encoding(ABC):
    """What of a path varies.

    Args:
        settings: Of the space.
        models: Whose layers run.

    Attributes:
        parameters: What varies.
        longest: Layers of the longest path, at most.
        keeps_length: Whether all paths have as many layers as the first model.
        conditional: Names of those that act only where others say so.
        has_scales: Whether any layer may weigh more or less than its model has it.
        last: Indices of the models whose layers may be the last.
    """

    parameters: tuple[Parameter, ...]
    longest: int
    keeps_length: bool
    has_scales: bool
    conditional: tuple[str, ...] = ()

    def __init__(self, settings: LayerSettings, models: PathModels) -> None:
        self.settings, self.models = settings, models
        self.names, self.depths = models.names, models.depths
        self.last = frozenset(range(len(models.names)))

    @classmethod
    def problems(cls, settings: LayerSettings, models: PathModels) -> list[Problem]:
        """What of the settings the models cannot do, each with its key."""
        return []

    @abstractmethod
    def path(self, point: Point) -> Path:
        """The path that a point means; a pure function. Never empty."""

    @abstractmethod
    def identity_point(self, model: int) -> Mapping[str, Any] | None:
        """The point of a model as it is, None where there is none."""

"""Recipes that stack layers of single models, as they are or scaled: which layers, in which order.

People call them frankenmerges. Nothing is merged in them, so that nobody need write a weight to
score one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evomerge.recipe.plain import Recipe

_METHOD, _SCALE = "passthrough", "scale"
_LAYER_RANGE = TypeAdapter(tuple[int, int])  # read as mergekit reads it, "0" and 2.0 too


@dataclass(frozen=True)
class ScaleEntry:
    """What some tensors are multiplied by.

    Attributes:
        filter: Text in their names; None for all that no entry before names.
        value: The factor.
    """

    filter: str | None
    value: float


@dataclass(frozen=True)
class StackedLayer:
    """One layer of one model.

    Attributes:
        model: As the recipe names it.
        layer: Which of its layers.
        scales: The first that matches counts.
    """

    model: Any
    layer: int
    scales: tuple[ScaleEntry, ...]

    def scale_of(self, name: str) -> float | None:
        """What a tensor is multiplied by, as mergekit finds it; None where it is not."""
        for entry in self.scales:
            if entry.filter is None or entry.filter in name:
                return entry.value
        return None


def stacked_layers(recipe: Recipe) -> tuple[StackedLayer, ...]:
    """The layers that a recipe stacks, in order; none where it is no such recipe.

    A scale over depth, which mergekit interpolates within a slice, is none of what is read here;
    nor is a shape that mergekit refuses, so that it says itself what is wrong.
    """
    config = recipe.config
    if config.get("merge_method") != _METHOD:
        return ()
    found: list[StackedLayer] = []
    for slice_ in _slices(recipe):
        of_slice = _layers_of(slice_, config)
        if of_slice is None:
            return ()
        found += of_slice
    return tuple(found)


def _slices(recipe: Recipe) -> Sequence[Any]:
    slices = recipe.config.get("slices")
    return slices if isinstance(slices, (list, tuple)) else ()


def _layers_of(slice_: Any, config: Mapping[str, Any]) -> list[StackedLayer] | None:
    """The layers of one slice; None where it has another shape, of which mergekit tells."""
    sources = slice_.get("sources") if isinstance(slice_, Mapping) else None
    if not isinstance(sources, (list, tuple)) or len(sources) != 1:
        return None
    (source,) = sources
    if not isinstance(source, Mapping) or source.get("model") is None:
        return None
    scopes = [part.get("parameters") or {} for part in (source, slice_, config)]
    if not all(isinstance(scope, Mapping) for scope in scopes):
        return None
    entries = [one for scope in scopes for one in _entries(scope.get(_SCALE))]
    scales = tuple(entry for entry in entries if entry is not None)
    if len(scales) < len(entries):
        return None
    try:
        start, end = _LAYER_RANGE.validate_python(source.get("layer_range"))
    except ValidationError:
        return None
    return [StackedLayer(source["model"], layer, scales) for layer in range(start, end)]


def n_slices(recipe: Recipe) -> int:
    """The slices that it is made of; none where it merges models whole."""
    return len(_slices(recipe))


def one_model(recipe: Recipe, model: Any) -> Recipe:
    """One of its models as it is, in the dtypes of the recipe.

    Args:
        recipe: One that stacks layers.
        model: As the recipe names it.
    """
    kept = {key: recipe.config[key] for key in ("dtype", "out_dtype") if key in recipe.config}
    return Recipe({"merge_method": _METHOD, "models": [{"model": model}], **kept})


def ends_of(recipe: Recipe, n_between: int) -> Recipe:
    """The same recipe with no layers but for its ends: embeddings, norm and head are the same.

    Args:
        recipe: One that stacks layers.
        n_between: Layers beside the last; they stand for any.
    """
    slices = recipe.config["slices"]
    first, last = (_one_layer(slices[index]) for index in (0, -1))
    return Recipe({**recipe.config, "slices": [*[first] * n_between, last]})


def _one_layer(slice_: Mapping[str, Any]) -> dict[str, Any]:
    return {**slice_, "sources": [{**slice_["sources"][0], "layer_range": [0, 1]}]}


def _entries(setting: Any) -> Iterator[ScaleEntry | None]:
    """The entries of one setting; None for one that is no plain factor."""
    if isinstance(setting, Mapping):
        setting = [setting]
    if setting is None:
        return
    if not isinstance(setting, list):
        setting = [{"value": setting}]
    for entry in setting:
        value = entry.get("value") if isinstance(entry, Mapping) else None
        name = entry.get("filter") if isinstance(entry, Mapping) else None
        is_named = name is None or isinstance(name, str)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_named:
            yield None
        else:
            yield ScaleEntry(None if name == "*" else name, float(value))

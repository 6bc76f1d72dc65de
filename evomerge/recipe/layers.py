"""The groups of layers of a recipe: all layers at once, or slice after slice of the same models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

from evomerge.foundations.errors import GenomeError
from evomerge.genome.model_names import ModelName

LAYER = "{layer}"  # stands in the names of an architecture's tensors
_SEED = "Name it as optimizer.seed_from of a genome of its models: it is tried as it is."
_SHOWN = 3  # slices named in a message


@dataclass(frozen=True)
class LayerGroup:
    """Layers that the recipe merges with the same settings.

    Attributes:
        layers: First layer, and the layer after the last.
        base: The base there.
        sources: The models there, with settings of their own.
        scopes: Where further settings stand, the narrowest first.
        takes_base: Whether mergekit adds the base to the models, as it does outside of slices.
    """

    layers: tuple[int, int]
    base: ModelName | None
    sources: Sequence[Mapping[str, Any]]
    scopes: Sequence[Mapping[str, Any]]
    takes_base: bool = False

    @property
    def models(self) -> tuple[ModelName, ...]:
        """The models in order."""
        return tuple(ModelName.model_validate(source["model"]) for source in self.sources)

    def entry_of(self, model: ModelName) -> Mapping[str, Any]:
        """What stands under a model."""
        found = dict(zip(self.models, self.sources, strict=True))
        return found.get(model, {})


def groups_of(config: Mapping[str, Any], n_layers: int) -> list[LayerGroup]:
    """The groups of a recipe, in order; together all layers.

    Slices of different lengths are cut to what divides them all: the merge is the same.

    Args:
        config: The recipe.
        n_layers: Layers of its models.

    Raises:
        GenomeError: it stacks, leaves out or repeats layers, merges other models in some, or has
            several modules.
    """
    scopes: list[Mapping[str, Any]] = [config]
    part = config
    if config.get("modules"):
        modules = config["modules"]
        if len(modules) > 1:
            named = ", ".join(map(str, modules))
            raise _refusal(
                f"it merges {len(modules)} modules ({named}), and one alone is opened: what is "
                "searched of several is written under genome.modules"
            )
        part = next(iter(modules.values()))
        scopes.insert(0, part)
    if not part.get("slices"):
        base = _name(config.get("base_model"))
        return [LayerGroup((0, n_layers), base, part.get("models") or (), scopes, takes_base=True)]
    spans = _spans(part["slices"], n_layers)
    groups = []
    for span, slice_ in zip(spans, part["slices"], strict=True):
        base = _name(slice_.get("base_model") or config.get("base_model"))
        groups.append(LayerGroup(span, base, slice_["sources"], (slice_, *scopes)))
    if len({(group.models, group.base) for group in groups}) > 1:
        raise _refusal("its slices merge different models: a search merges the same in all layers")
    step = gcd(*(start for start, _ in spans)) or n_layers
    if [*_cut((0, n_layers), step)] == spans:
        return groups
    if any(_is_over_depth(scope) for scope in (config, part)):
        raise _refusal(
            "its slices have different numbers of layers and values over depth: a search has one "
            "or the other"
        )
    return [replace(group, layers=span) for group in groups for span in _cut(group.layers, step)]


def _spans(slices: Sequence[Mapping[str, Any]], n_layers: int) -> list[tuple[int, int]]:
    """The layers of each slice, which are all layers in order.

    Raises:
        GenomeError: they are not.
    """
    spans: list[tuple[int, int]] = []
    for index, slice_ in enumerate(slices):
        ranges = list(dict.fromkeys(_span(source) for source in slice_["sources"]))
        if len(ranges) > 1:
            raise _refusal(
                f"slice {index} merges different layers of its models "
                f"({', '.join(map(_layers, ranges))}): a search merges each layer with itself"
            )
        spans += ranges
    starts, ends = zip(*spans, strict=True)
    if starts != (0, *ends[:-1]):
        shown = [
            f"{_layers(span)} of {_name(slice_['sources'][0]['model'])}"
            for span, slice_ in zip(spans[:_SHOWN], slices, strict=False)
        ]
        more = ", ..." if len(spans) > _SHOWN else ""
        raise _refusal(
            f"its slices stack layers ({', '.join(shown)}{more}): which layers a merge has is "
            "searched by space: layers, which no recipe is opened into"
        )
    if ends[-1] != n_layers:
        raise _refusal(
            f"its slices end at layer {ends[-1]} of {n_layers}: which layers a merge has is "
            "searched by space: layers, which no recipe is opened into"
        )
    return spans


def _span(source: Mapping[str, Any]) -> tuple[int, int]:
    start, end = source["layer_range"]
    return int(start), int(end)


def _layers(span: tuple[int, int]) -> str:
    return f"layers {span[0]} to {span[1] - 1}"


def _cut(span: tuple[int, int], step: int) -> Iterator[tuple[int, int]]:
    for start in range(*span, step):
        yield start, min(start + step, span[1])


def _is_over_depth(part: Any, *, is_value: bool = False) -> bool:
    """Whether a parameter of a recipe's part is a list of numbers, which spans a slice."""
    if isinstance(part, Mapping):
        return any(
            _is_over_depth(value, is_value=is_value or key == "parameters")
            for key, value in part.items()
            if key not in ("layer_range", "tokenizer")
        )
    if isinstance(part, list):
        is_list = is_value and any(not isinstance(value, (Mapping, list)) for value in part)
        return is_list or any(_is_over_depth(value, is_value=is_value) for value in part)
    return False


def _name(model: Any) -> ModelName | None:
    return None if model is None else ModelName.model_validate(model)


def _refusal(what: str) -> GenomeError:
    return GenomeError(what, fix=_SEED)

"""The groups of layers of a recipe: all layers at once, or slice after slice of the same models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import GenomeError
from evomerge.genome.models import ModelName

LAYER = "{layer}"  # stands in the names of an architecture's tensors
_SEED = "Name it as optimizer.seed_from of a genome of its models: it is tried as it is."


@dataclass(frozen=True)
class Group:
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


def groups_of(config: Mapping[str, Any], n_layers: int) -> list[Group]:
    """The groups of a recipe, in order; together all layers.

    Args:
        config: The recipe.
        n_layers: Layers of its models.

    Raises:
        GenomeError: it stacks, leaves out or repeats layers, or has several modules.
    """
    scopes: list[Mapping[str, Any]] = [config]
    part = config
    if config.get("modules"):
        modules = config["modules"]
        if len(modules) > 1:
            raise _refusal(f"its {len(modules)} modules")
        part = next(iter(modules.values()))
        scopes.insert(0, part)
    if not part.get("slices"):
        base = _name(config.get("base_model"))
        return [Group((0, n_layers), base, part.get("models") or (), scopes, takes_base=True)]
    groups, start = [], 0
    for slice_ in part["slices"]:
        ranges = {tuple(source["layer_range"]) for source in slice_["sources"]}
        base = _name(slice_.get("base_model") or config.get("base_model"))
        layers = ranges.pop() if len(ranges) == 1 else (-1, -1)
        if layers[0] != start:
            raise _refusal("its slices do not take the layers in order, and they")
        groups.append(Group((layers[0], layers[1]), base, slice_["sources"], (slice_, *scopes)))
        start = layers[1]
    steps = [group.layers[1] - group.layers[0] for group in groups]
    if start != n_layers:
        raise _refusal(f"its slices end at layer {start} of {n_layers}, and they")
    if any(step != steps[0] for step in steps[:-1]) or steps[-1] > steps[0]:
        raise _refusal("its slices have different numbers of layers, and they")
    if len({(group.models, group.base) for group in groups}) > 1:
        raise _refusal("its slices merge different models, and they")
    return groups


def _name(model: Any) -> ModelName | None:
    return None if model is None else ModelName.model_validate(model)


def _refusal(what: str) -> GenomeError:
    return GenomeError(f"{what} cannot be opened yet", fix=_SEED)

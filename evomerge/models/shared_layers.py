"""What models have in common, for a merge space: layers and tensor names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomerge.foundations.errors import ModelError
from evomerge.genome.model_names import ModelName
from evomerge.models.architecture import Architecture
from evomerge.models.completeness import can_be_merged
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.models.family import COMPUTED, ModelPart, Weight
from evomerge.models.native import lists_layers


def describe(models: Sequence[ModelFacts]) -> Architecture:
    """The architecture that all models share.

    Args:
        models: Models that fit together, as the rules of a preflight have found.

    Raises:
        ModelError: mergekit has no definition of the first model's architecture.
    """
    first = models[0]
    family = family_of(first)
    if family is None or not family.layer:
        raise ModelError(
            f"architecture {first.architecture} is no language model that mergekit knows",
            where=first.key,
        )
    n_layers = family.n_layers(first)
    present = {name for model in models for name in model.tensors}
    depths = {ModelName.model_validate(one.reference): family.n_layers(one) for one in models}
    whole = ModelPart(family.before, family.layer, family.after, n_layers)
    return replace(
        _of_part(whole, present),
        name=first.architecture,
        depths={name: depth for name, depth in depths.items() if depth != n_layers},
        lists_layers=lists_layers(str(first.text_config.get("model_type", ""))),
        has_own_width=_has_own_width(first.text_config),
        beside=tuple(_stored(family.beside(n_layers), present)),
        parts={name: _of_part(part, present) for name, part in family.parts.items()},
    )


def describe_apart(models: Sequence[ModelFacts]) -> Architecture:
    """What models that answer side by side have in common: maybe no more than names of tensors.

    Args:
        models: Models that transformers loads, of any architectures.
    """
    first = models[0]
    if can_be_merged(first) and all(
        (one.architecture, one.tensors.keys()) == (first.architecture, first.tensors.keys())
        for one in models
    ):
        return describe(models)
    names = tuple(sorted({name for model in models for name in model.tensors}))
    return Architecture(first.architecture, 0, (), (), (), (), beside=names)


def _of_part(part: ModelPart, present: Collection[str]) -> Architecture:
    """A part, with the tensors that a merge has: all that must be there, and what some model has.

    Args:
        part: The part.
        present: Names of all tensors of all models.
    """
    of_layers = {
        weight: any(weight.of_layer(index).name in present for index in range(part.n_layers))
        for weight in part.layer
    }
    layer = [weight for weight, is_there in of_layers.items() if is_there or not weight.is_optional]
    return Architecture(
        name="",
        n_layers=part.n_layers,
        embeddings=tuple(_stored(part.before, present)),
        layer_tensors=tuple(w.name for w in layer if not w.name.endswith(COMPUTED)),
        final_norm=tuple(_stored((w for w in part.after if w.vocabulary_axis is None), present)),
        head=tuple(_stored((w for w in part.after if w.vocabulary_axis is not None), present)),
        has_buffers=any(weight.name.endswith(COMPUTED) for weight in layer),
    )


def _stored(weights: Iterable[Weight], present: Collection[str]) -> Iterator[str]:
    """Names of the tensors that a merge has, without what transformers computes itself."""
    for weight in weights:
        is_there = not weight.is_optional or weight.name in present
        if is_there and not weight.name.endswith(COMPUTED):
            yield weight.name


def _has_own_width(config: Mapping[str, Any]) -> bool:
    """Whether heads times their width is not the hidden size; where all three are given."""
    found = [config.get(key) for key in ("head_dim", "num_attention_heads", "hidden_size")]
    width, heads, hidden = (one if isinstance(one, int) else 0 for one in found)
    return bool(width and heads and hidden) and width * heads != hidden

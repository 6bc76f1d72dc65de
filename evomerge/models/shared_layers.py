"""What models have in common, for a merge space: layers and tensor names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.foundations.errors import ModelError
from evomerge.genome.model_names import ModelName
from evomerge.models.architecture import Architecture
from evomerge.models.facts import ModelFacts
from evomerge.models.families import COMPUTED, Weight, family_of
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
    if family is None or len(family.modules) != 1:
        raise ModelError(
            f"architecture {first.architecture} is not a text model that mergekit knows",
            where=first.key,
        )
    n_layers = family.n_layers(first)
    present = {name for model in models for name in model.tensors}

    def stored(weights: Sequence[Weight]) -> Iterator[Weight]:
        """Weights that a merge has: all that must be there, and optional ones some model has."""
        for weight in weights:
            in_layers = (weight.of_layer(index).name for index in range(max(n_layers, 1)))
            if not weight.is_optional or any(name in present for name in in_layers):
                yield weight

    def names(weights: Sequence[Weight]) -> tuple[str, ...]:
        return tuple(w.name for w in stored(weights) if not w.name.endswith(COMPUTED))

    depths = {ModelName.model_validate(one.reference): family.n_layers(one) for one in models}
    return Architecture(
        name=first.architecture,
        n_layers=n_layers,
        embeddings=names(family.before),
        layer_tensors=names(family.layer),
        final_norm=names([w for w in family.after if w.vocabulary_axis is None]),
        head=names([w for w in family.after if w.vocabulary_axis is not None]),
        depths={name: depth for name, depth in depths.items() if depth != n_layers},
        lists_layers=lists_layers(str(first.text_config.get("model_type", ""))),
        has_own_width=_has_own_width(first.text_config),
        has_buffers=any(w.name.endswith(COMPUTED) for w in stored(family.layer)),
    )


def _has_own_width(config: Mapping[str, Any]) -> bool:
    """Whether heads times their width is not the hidden size; where all three are given."""
    found = [config.get(key) for key in ("head_dim", "num_attention_heads", "hidden_size")]
    width, heads, hidden = (one if isinstance(one, int) else 0 for one in found)
    return bool(width and heads and hidden) and width * heads != hidden

"""Memory that running a path of layers takes beside the layers themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.checks.context import CheckContext
from evomerge.checks.given_to_workers import n_sharing
from evomerge.checks.need import COMPUTED_BYTES, ITEM_BYTES, Need
from evomerge.foundations.counted import counted
from evomerge.models.facts import ModelFacts


def path_needs(context: CheckContext, tokens: int) -> Iterator[Need]:
    """What the longest path takes; nothing where candidates are as deep as their models.

    Args:
        context: Whose space is looked at.
        tokens: Of the largest forward pass.
    """
    space = context.merge_space
    if space is None or space.longest_path is None or not context.models:
        return
    workers = n_sharing(context.genome)
    item = ITEM_BYTES.get(context.dtype or space.out_dtype, COMPUTED_BYTES)
    deepest = max(context.models, key=lambda model: len(model.tensors))
    others = sum(_n_values(one) for one in context.models) - _n_values(deepest)
    path = f"the longest path, {counted(space.longest_path, 'layer')}"
    # Where they are in the dtype of the passes, the sources themselves run.
    yield Need("layers of the other models, live", workers * others * item, is_certain=False)
    scaled = space.longest_path * _n_values(deepest, space.scaled_tensors)
    yield Need(f"scaled tensors of {path}", workers * scaled * item)
    kept = space.longest_path * _kept_per_token(deepest.text_config)
    yield Need(f"keys and values of {path}", workers * tokens * kept * item)


def _n_values(model: ModelFacts, names: tuple[str, ...] | None = None) -> int:
    """Numbers in the tensors of a model, or in those of its first layer that have some names."""
    of_layer = None if names is None else {name.format(layer=0) for name in names}
    return sum(
        math.prod(tensor.shape)
        for name, tensor in model.tensors.items()
        if of_layer is None or name in of_layer
    )


def _kept_per_token(config: Mapping[str, Any]) -> int:
    """Numbers that a layer keeps of a token; 0 where the configuration does not say."""

    def number(*keys: str) -> int:
        return next((config[key] for key in keys if isinstance(config.get(key), int)), 0)

    heads = number("num_attention_heads", "n_head")
    width = number("head_dim") or (number("hidden_size", "n_embd") // heads if heads else 0)
    return 2 * (number("num_key_value_heads") or heads) * width

"""Which models may compute a token once that several rows begin with, and what their layers see.

Sharing gives a token the same value as a plain row only where attention is all that connects
tokens and where the model takes its mask and positions from outside.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Model types whose shared scores are tested against plain rows; a test goes through all of them.
SHARED = frozenset({"gemma2", "gpt_neox", "llama", "mistral", "qwen2"})
# The same of models that see, by the type of the whole -> those of its language model.
SEEING = {
    "gemma3": frozenset({"gemma3_text"}),
    "llava": SHARED,
    "mistral3": SHARED,
    "qwen2_5_vl": frozenset({"qwen2_5_vl_text"}),
    "qwen3_vl": frozenset({"qwen3_vl_text"}),
}
_ATTENTION = ("eager", "sdpa")  # others read no mask of four dimensions
_SLIDING, _FULL = "sliding_attention", "full_attention"
_VARYING_ROPE = ("dynamic", "longrope")  # angles that depend on the longest row of a pass

Masks = torch.Tensor | dict[str, torch.Tensor]


def may_share(module: PreTrainedModel) -> bool:
    """Whether a model's tokens may be shared; says once why not."""
    reason = _obstacle(module)
    if reason:
        _tell(reason)
    return not reason


def _obstacle(module: PreTrainedModel) -> str:
    """Why a model's rows are computed one by one, "" where they need not be."""
    whole, config = module.config.model_type, module.config.get_text_config()
    tested = SHARED if whole == config.model_type else SEEING.get(whole, frozenset())
    if config.model_type not in tested:
        return f"model type {whole!r} is not among {', '.join(sorted({*SHARED, *SEEING}))}"
    attention = getattr(config, "_attn_implementation", None)
    if attention not in _ATTENTION:
        return f"attention {attention!r} is not among {', '.join(_ATTENTION)}"
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in _VARYING_ROPE:
        return f"positions of type {rope['rope_type']!r} depend on the length of a pass"
    if set(getattr(config, "layer_types", None) or ()) - {_SLIDING, _FULL}:
        return "it has layers other than full and sliding attention"
    return ""


@cache
def _tell(reason: str) -> None:
    logging.getLogger(__name__).warning(
        "shared tokens are computed once per row, which takes longer: %s", reason
    )


def attention_masks(
    module: PreTrainedModel, visible: torch.Tensor, distance: torch.Tensor
) -> Masks:
    """The mask of every kind of layer, as the model's forward takes it.

    Args:
        module: The model.
        visible: Which keys each query may see, shape (rows, queries, keys).
        distance: Positions from key to query, same shape.
    """
    config = module.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if window is None or kinds == {_FULL}:
        return _additive(visible, module.dtype)
    near = _additive(visible & (distance < window), module.dtype)
    if _FULL not in kinds:
        return near
    return {_FULL: _additive(visible, module.dtype), _SLIDING: near}


def _additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What is added to attention scores, shape (rows, 1, queries, keys)."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]

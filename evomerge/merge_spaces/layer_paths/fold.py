"""Where a scale of the residual stream may stand in a model's own weights.

What a layer adds to the stream is weighted exactly: its blocks end in a product with a tensor, and
that times w is w times the product. Encodings `path` and `slices` ask for nothing else.

A scale of the whole stream, of encoding `mask`, is exact up to the epsilon of the norms: a block
that norms the stream before it reads it does not see the stream's scale, RMSNorm and LayerNorm of
s*h are those of h with an epsilon s^2 times as large. So only what is added to the stream matters
beside what is in it, and a scale of the stream is the same as another weight of what the layers
behind it add, which the tensors that write to the stream hold: `passthrough` scales them. Parallel
blocks, as GPT-NeoX's, add two terms at once, and are no exception.
"""

from __future__ import annotations

from collections.abc import Mapping

_GATED = ("o_proj", "down_proj")
# Architecture -> texts in the names of the tensors that write to the stream, biases among them.
ADDS: Mapping[str, tuple[str, ...]] = {
    "LlamaForCausalLM": _GATED,
    "MistralForCausalLM": _GATED,
    "Qwen2ForCausalLM": _GATED,
    "Qwen3ForCausalLM": _GATED,
    "GemmaForCausalLM": _GATED,
    "Phi3ForCausalLM": _GATED,
    "GPTNeoXForCausalLM": ("attention.dense", "dense_4h_to_h"),
    "GPT2LMHeadModel": ("attn.c_proj", "mlp.c_proj"),
}
_NORMED_AFTER = (
    "its layers norm what they add to the stream, so that a scale in the weights before that norm "
    "changes nothing"
)
_NOT_EXACT: Mapping[str, str] = {
    "Gemma2ForCausalLM": _NORMED_AFTER,
    "Gemma3ForCausalLM": _NORMED_AFTER,
    "Olmo2ForCausalLM": _NORMED_AFTER,
    "Glm4ForCausalLM": _NORMED_AFTER,
}


def obstacle(architecture: str) -> str:
    """Why no scale can be folded into models of an architecture; empty where it can."""
    if architecture in ADDS:
        return ""
    reason = _NOT_EXACT.get(architecture, "nobody has shown that a scale of its stream is exact")
    return f"no scale can be folded into {architecture}: {reason}"

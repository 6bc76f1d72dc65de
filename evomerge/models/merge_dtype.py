"""The dtype that a merge of some models is written in unless the genome says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.models.facts import ModelFacts

FALLBACK = "float32"
_KNOWN = ("float32", "bfloat16", "float16")


def common_dtype(models: Sequence[ModelFacts]) -> str:
    """The dtype in the models' configurations; float32 where they differ or say nothing."""
    found = {_dtype(model) for model in models}
    return found.pop() if len(found) == 1 else FALLBACK


def _dtype(model: ModelFacts) -> str:
    """``torch_dtype`` is what transformers wrote before version 5."""
    for config in (model.config, model.text_config):
        dtype = config.get("dtype") or config.get("torch_dtype")
        if isinstance(dtype, str) and dtype.removeprefix("torch.") in _KNOWN:
            return dtype.removeprefix("torch.")
    return FALLBACK

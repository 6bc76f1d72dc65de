"""The dtype that a merge of some models is written in unless the genome says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mergekit.common import ModelReference

from evomerge.merging.sources import quiet_transformers

FALLBACK = "float32"


def common_dtype(models: Sequence[str | dict[str, Any]], *, trust_remote_code: bool = False) -> str:
    """The dtype in the models' configurations; float32 where they differ or say nothing."""
    found = set()
    with quiet_transformers():
        for model in models:
            config = ModelReference.model_validate(model).config(trust_remote_code)
            found.add(str(config.dtype).removeprefix("torch.") if config.dtype else FALLBACK)
    return found.pop() if len(found) == 1 else FALLBACK

"""Which types of models transformers knows itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_native(model_type: str) -> bool:
    """Whether models of this type need no code of their own."""
    return model_type in native_types()


def ties_by_default(model_type: str) -> bool:
    """Whether a native type ties its head to its embeddings where config.json does not say."""
    from transformers import CONFIG_MAPPING  # heavy, as below

    return bool(getattr(CONFIG_MAPPING[model_type](), "tie_word_embeddings", False))


def ties_as_read(config: Mapping[str, Any]) -> bool | None:
    """Whether transformers ties the head of a native type of several parts.

    Some types heed what their language model says, others what stands around it.

    Args:
        config: Of the whole model.

    Returns:
        None where transformers cannot read it.
    """
    from transformers import CONFIG_MAPPING  # heavy, as above

    def told(part: Mapping[str, Any], *kept: str) -> dict[str, Any]:
        keys = ("tie_word_embeddings", *kept)
        return {key: part[key] for key in keys if part.get(key) is not None}

    text = told(config["text_config"], "model_type")
    try:
        kind: Any = CONFIG_MAPPING[config["model_type"]]
        read = kind(**told(config), text_config=text)
    except Exception:  # whatever a stranger's configuration holds
        return None
    return bool(getattr(read, "tie_word_embeddings", False))


def lists_layers(model_type: str) -> bool:
    """Whether configurations of a native type say of every layer which kind it is."""
    from transformers import CONFIG_MAPPING  # heavy, as below

    if not is_native(model_type):
        return False
    return isinstance(getattr(CONFIG_MAPPING[model_type](), "layer_types", None), list)


def native_types() -> list[str]:
    """Every type that transformers has code for."""
    from transformers import CONFIG_MAPPING  # heavy; asked when a model has been read

    return list(CONFIG_MAPPING)

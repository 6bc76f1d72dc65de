"""Which types of models transformers knows itself."""

from __future__ import annotations


def is_native(model_type: str) -> bool:
    """Whether models of this type need no code of their own."""
    return model_type in native_types()


def ties_by_default(model_type: str) -> bool:
    """Whether a native type ties its head to its embeddings where config.json does not say."""
    from transformers import CONFIG_MAPPING  # heavy, as below

    return bool(getattr(CONFIG_MAPPING[model_type](), "tie_word_embeddings", False))


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

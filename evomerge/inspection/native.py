"""Which types of models transformers knows itself."""

from __future__ import annotations


def is_native(model_type: str) -> bool:
    """Whether models of this type need no code of their own."""
    return model_type in native_types()


def native_types() -> list[str]:
    """Every type that transformers has code for."""
    from transformers import CONFIG_MAPPING  # heavy; asked when a model has been read

    return list(CONFIG_MAPPING)

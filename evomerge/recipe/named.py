"""The models that a recipe names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.foundations.errors import GenomeError
from evomerge.genome.model_names import ModelName


def models_in(part: Any) -> Iterator[ModelName]:
    """Every model that a recipe, or a part of one, names; as often as it does.

    Raises:
        GenomeError: something stands in a model's place that names none.
    """
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key in ("model", "base_model") and value is not None:
                yield _model(value)
            elif key not in ("parameters", "tokenizer"):
                yield from models_in(value)
    elif isinstance(part, list):
        for entry in part:
            yield from models_in(entry)


def _model(value: Any) -> ModelName:
    try:
        return ModelName.model_validate(value)
    except ValueError as error:
        raise GenomeError(f"{value!r} names no model") from error

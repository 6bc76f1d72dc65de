"""A genome that names other models: folders in the place of what stages and recipes make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.genome.source_blocks import Source
from evomerge.recipe.walk import with_models


def with_other_models(genome: Genome, names: Mapping[ModelName, ModelName]) -> Genome:
    """A genome with other models in the place of its own, those that give tokens included.

    Args:
        genome: As its file has it.
        names: From a model to the one in its place.
    """
    if not names:
        return genome
    definition = genome.genome
    modules = {
        name: block.model_copy(update={"models": _replaced(block.models, names)})
        for name, block in definition.modules.items()
    }
    base = definition.base_model
    space, tokens = definition.space, definition.tokenizer
    donors = with_models(
        {
            "tokenizer_source": definition.tokenizer_source,
            "tokenizer": tokens and {"source": tokens.source, "tokens": tokens.tokens},
        },
        lambda model: names.get(model, model),
    )
    changes = {
        "models": _replaced(definition.models, names),
        "modules": modules,
        "base_model": base and names.get(base, base),
        "space": space and space.model_copy(update=_renamed(space.settings, names)),
        "tokenizer_source": donors["tokenizer_source"],
        "tokenizer": tokens and tokens.model_copy(update=donors["tokenizer"]),
    }
    return genome.model_copy(update={"genome": definition.model_copy(update=changes)})


def _replaced(models: Sequence[Source], names: Mapping[ModelName, ModelName]) -> list[Source]:
    return [one.model_copy(update={"model": names.get(one.model, one.model)}) for one in models]


def _renamed(settings: Any, names: Mapping[ModelName, ModelName]) -> Any:
    """Settings of a space, as a file writes them, that name other models."""
    if isinstance(settings, list):
        return [_renamed(one, names) for one in settings]
    if isinstance(settings, str) or (isinstance(settings, dict) and settings.keys() == {"stage"}):
        return next(
            (new.in_recipe for old, new in names.items() if old.in_recipe == settings), settings
        )
    if not isinstance(settings, dict):
        return settings
    return {key: _renamed(one, names) for key, one in settings.items()}

"""Which model the others are held against."""

from __future__ import annotations

from evomerge.checks.context import CheckContext
from evomerge.models.facts import ModelFacts


def reference_of(context: CheckContext) -> ModelFacts | None:
    """The base; the first model where there is no base; None where it could not be read.

    mergekit takes configuration and tokenizer from the same model.
    """
    definition = context.genome.genome
    name = definition.base_model or definition.models[0].model
    return next((model for model in context.models if model.name == name.text), None)


def others_of(context: CheckContext) -> list[ModelFacts]:
    """Every other model that could be read."""
    reference = reference_of(context)
    return [model for model in context.models if model is not reference]


def some(names: object, n_shown: int = 3) -> str:
    """The first few of several names."""
    listed = list(map(str, names)) if isinstance(names, (list, tuple, set)) else [str(names)]
    shown = ", ".join(listed[:n_shown])
    return f"{shown}, ..." if len(listed) > n_shown else shown

"""Whether a genome asks for what sums of LoRA factors can be."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.misfit import MisfitError

_OR = "or use space: parameters"


def unfit_for_factors(definition: MergeDefinition) -> Iterator[MisfitError]:
    """What of the ``genome:`` block such a sum cannot be."""
    yield from _unfit_models(definition)
    yield from _unfit_parameters(definition)
    if definition.granularity not in (None, "model"):
        yield MisfitError(
            "adapter_factors has one coefficient per adapter for the whole model, got "
            f"{definition.granularity}",
            "granularity",
            fix=f"Remove it, {_OR}.",
        )
    if definition.normalize is False:
        yield MisfitError(
            "adapter_factors searches coefficients that sum to 1", "normalize", fix="Remove it."
        )


def _unfit_models(definition: MergeDefinition) -> Iterator[MisfitError]:
    first, base = definition.models[0].model, definition.base_model
    own = first.model_copy(update={"lora": None, "lora_revision": None})
    if base not in (None, own):
        yield MisfitError(
            f"{base} is not what the adapters are for, which is {own}",
            "base_model",
            fix="Remove it, or name that one.",
        )
    if len(definition.models) < 2:
        yield MisfitError("adapter_factors sums two or more adapters, got 1", "models")
    for index, source in enumerate(definition.models):
        model = source.model
        if model.lora is None:
            yield MisfitError(
                f"{model} has no adapter, and adapter_factors sums adapters",
                *("models", index),
                fix=f"Write base+adapter, {_OR}.",
            )
        elif (model.path, model.revision) != (first.path, first.revision):
            yield MisfitError(
                f"{model} has another base than {first}; factors of adapters can be summed on one "
                "base only",
                *("models", index),
                fix=f"Name the same base before every +, {_OR}.",
            )
        if source.parameters:
            yield MisfitError(
                "adapter_factors has no settings of one model",
                *("models", index, "parameters"),
                fix=f"Remove them, {_OR}.",
            )


def _unfit_parameters(definition: MergeDefinition) -> Iterator[MisfitError]:
    for name, settings in definition.parameters.items():
        entries = settings.entries
        span = entries[0].range if len(entries) == 1 and entries[0].is_default else None
        if name != "weight" or span is None or entries[0].log:
            yield MisfitError(
                f"adapter_factors searches one coefficient per adapter, and nothing of {name}",
                *("parameters", name),
                fix=f"Write weight: {{range: [low, high]}} or nothing, {_OR}.",
            )
        elif span[0] > 0 or span[1] < 1:
            yield MisfitError(
                f"the range {list(span)} leaves out 0 or 1, where the adapters themselves are",
                *("parameters", name),
                fix="Widen it to hold both.",
            )

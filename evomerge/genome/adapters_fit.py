"""Whether a genome with ``adapters: factors`` asks for what sums of LoRA factors can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName

_OR = "or leave adapters: delta"
# Keys that have no meaning for one sum over the whole model -> what they are without it.
_WHOLE = {"layer_granularity": 0, "filters": None, "smooth": False}
_OTHERS = {"tokenizer_source": None, "tokenizer": None}


class Definition(Protocol):
    """What is read here of the ``genome:`` block, which is the caller."""

    @property
    def models(self) -> Sequence[Any]:
        """The sources."""

    @property
    def merge_method(self) -> str:
        """Its name."""

    @property
    def base_model(self) -> ModelName | None:
        """What the adapters are for."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Settings of each parameter."""

    @property
    def granularity(self) -> str | None:
        """How finely values vary."""

    @property
    def normalize(self) -> bool | None:
        """Whether weights are shares."""


def unfit_for_factors(definition: Definition) -> Iterator[MisfitError]:
    """What stands against it in the file itself."""
    if definition.merge_method != "linear":
        yield MisfitError(
            f"adapters: factors sums A and B, which is linear, got {definition.merge_method}",
            "merge_method",
            fix=f"Use merge_method: linear, {_OR}.",
        )
    yield from _unfit_models(definition)
    yield from _unfit_parameters(definition)
    if definition.granularity not in (None, "model"):
        yield _whole("granularity", definition.granularity)
    for key, absent in _WHOLE.items():
        if getattr(definition, key) not in (absent, []):
            yield _whole(key, getattr(definition, key))
    if definition.normalize is False:
        yield MisfitError(
            "adapters: factors searches coefficients that sum to 1", "normalize", fix="Remove it."
        )
    for key, absent in _OTHERS.items():
        if getattr(definition, key) != absent:
            yield MisfitError(
                "a sum of adapters has the tokenizer of its base", key, fix=f"Remove it, {_OR}."
            )


def _whole(key: str, value: object) -> MisfitError:
    what = f"adapters: factors has one coefficient per adapter for the whole model, got {value}"
    return MisfitError(what, key, fix=f"Remove it, {_OR}.")


def _unfit_models(definition: Definition) -> Iterator[MisfitError]:
    first, base = definition.models[0].model, definition.base_model
    own = first.model_copy(update={"lora": None, "lora_revision": None})
    if base not in (None, own):
        yield MisfitError(
            f"{base} is not what the adapters are for, which is {own}",
            "base_model",
            fix="Remove it, or name that one.",
        )
    if len(definition.models) < 2:
        yield MisfitError("adapters: factors sums two or more adapters, got 1", "models")
    for index, source in enumerate(definition.models):
        model = source.model
        if model.lora is None:
            yield MisfitError(
                f"{model} has no adapter, and adapters: factors sums adapters",
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
                "adapters: factors has no settings of one model",
                *("models", index, "parameters"),
                fix=f"Remove them, {_OR}.",
            )


def _unfit_parameters(definition: Definition) -> Iterator[MisfitError]:
    for name, settings in definition.parameters.items():
        entries = settings.entries
        span = entries[0].range if len(entries) == 1 and entries[0].is_default else None
        if name != "weight" or span is None or entries[0].log:
            yield MisfitError(
                f"adapters: factors searches one coefficient per adapter, and nothing of {name}",
                *("parameters", name),
                fix=f"Write weight: {{range: [low, high]}} or nothing, {_OR}.",
            )
        elif span[0] > 0 or span[1] < 1:
            yield MisfitError(
                f"the range {list(span)} leaves out 0 or 1, where the adapters themselves are",
                *("parameters", name),
                fix="Widen it to hold both.",
            )

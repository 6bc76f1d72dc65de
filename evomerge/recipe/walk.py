"""Walks what recipes hold: models they name, filters, blocks of settings; nobody else does.

A mergekit document nests its parts in ``models``, ``slices`` and ``modules``; whatever holds a
``model``, a ``base_model`` or a ``source_model`` names one. What a stranger's file has in such a
place and names no model is left to mergekit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from evomerge.foundations.errors import GenomeError
from evomerge.genome.misfit import KeyPath
from evomerge.genome.model_names import ModelName

_MODEL = ("model", "base_model", "source_model")
_DONOR = ("tokenizer_source", "source")  # of tokens; or how they are found:
_NO_DONOR = ("base", "union")
_SETTINGS = "parameters"

Change = Callable[[ModelName], ModelName]


def models_in(part: Any) -> Iterator[ModelName]:
    """Every model that is merged or a base, as often as it is named.

    Raises:
        GenomeError: something stands in a model's place that names none.
    """
    for value in _merged(part):
        try:
            yield ModelName.model_validate(value)
        except ValueError as error:
            raise GenomeError(f"{value!r} names no model") from error


def merged_in(part: Any) -> list[ModelName]:
    """Every model that is merged or a base, once, in order; of those that are named at all."""
    return list(dict.fromkeys(filter(None, map(_name, _merged(part)))))


def named_in(part: Any) -> list[ModelName]:
    """The same with models that only give tokens."""
    found: dict[ModelName, None] = {}

    def heard(model: ModelName) -> ModelName:
        found[model] = None
        return model

    with_models(part, heard)
    return list(found)


def with_models(part: Any, change: Change) -> Any:
    """A part with other models in the place of its own, those that give tokens included.

    Args:
        part: A recipe, or a part of one.
        change: From a model to the one in its place; where it is the same, the text stays.
    """
    if isinstance(part, (list, tuple)):
        return [with_models(entry, change) for entry in part]
    if not isinstance(part, Mapping):
        return part
    return {key: _with_model(key, value, change) for key, value in part.items()}


def with_settings(part: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A recipe with other settings in every block of parameters; without it where None."""
    changed = {}
    for key, value in part.items():
        if key == _SETTINGS:
            changed[key] = change(value)
        elif key == "modules" and value:  # by names, whatever these are
            changed[key] = {name: with_settings(entry, change) for name, entry in value.items()}
        else:
            changed[key] = value if key == "tokenizer" else _below(value, change)
    return {key: value for key, value in changed.items() if key != _SETTINGS or value is not None}


def _below(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same of what stands at any other key: kinds of recipes have keys of their own."""
    if isinstance(value, Mapping):
        return with_settings(value, change)
    if isinstance(value, (list, tuple)):
        return [_below(entry, change) for entry in value]
    return value


def filters_in(part: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Texts that tensors' names are looked through for, each with its place."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key == "filter" and isinstance(value, str):
                yield (*path, key), value
            elif key != "tokenizer":
                yield from filters_in(value, (*path, key))
    elif isinstance(part, (list, tuple)):
        for index, entry in enumerate(part):
            yield from filters_in(entry, (*path, index))


def _merged(part: Any) -> Iterator[Any]:
    """Whatever stands where a model does."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key in _MODEL and value is not None:
                yield value
            elif key not in (_SETTINGS, "tokenizer"):
                yield from _merged(value)
    elif isinstance(part, (list, tuple)):
        for entry in part:
            yield from _merged(entry)


def _with_model(key: Any, value: Any, change: Change) -> Any:
    is_donor = key in _DONOR and isinstance(value, str) and value not in _NO_DONOR
    if is_donor or (key in _MODEL and value is not None):
        model = _name(value)
        other = model if model is None else change(model)
        return value if other is None or other == model else other.in_recipe
    return value if key == _SETTINGS else with_models(value, change)


def _name(value: Any) -> ModelName | None:
    with suppress(ValueError):
        return ModelName.model_validate(value)
    return None

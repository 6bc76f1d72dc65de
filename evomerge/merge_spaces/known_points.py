"""Points that are known before a search: the same values at every place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces.slots import Coupled, Idle, ValueSlot, Variable
from evomerge.nouns.space import Parameter


def known_point(
    parameters: Iterable[Parameter],
    slots: Sequence[ValueSlot],
    weights: Mapping[ModelName, float],
    others: Mapping[str, Any],
) -> dict[str, Any] | None:
    """The point whose recipe holds these values everywhere, None where the space has none.

    Args:
        parameters: What varies.
        slots: Where the values of a recipe stand.
        weights: Weight of each model.
        others: Value of each other parameter, the same for all models.
    """
    point: dict[str, Any] = {}
    for slot in slots:
        wanted = others.get(slot.parameter)
        if slot.parameter == "weight" and slot.model is not None:
            wanted = weights[slot.model]
        if isinstance(slot.reader, Variable) and wanted is not None:
            point.update(dict.fromkeys(slot.reader.names, wanted))
        elif not isinstance(slot.reader, (Coupled, Idle)) and slot.reader != wanted:
            return None
    for reader, together in _coupled(slots, weights).items():
        if not sum(together):
            return None
        for shares in reader:
            point.update(zip(shares.names, shares.encode(together), strict=True))
    own = {parameter.name: parameter for parameter in parameters}
    return point if all(own[name].holds(value) for name, value in point.items()) else None


def _coupled(
    slots: Sequence[ValueSlot], weights: Mapping[ModelName, float]
) -> dict[tuple[Any, ...], list[float]]:
    """The weights of each set of models that share a sum, in the order of the set."""
    found: dict[tuple[Any, ...], dict[int, float]] = {}
    for slot in slots:
        if isinstance(slot.reader, Coupled) and slot.model is not None:
            together = found.setdefault(slot.reader.weights, {})
            together[slot.reader.index] = weights[slot.model]
    return {reader: [by[i] for i in sorted(by)] for reader, by in found.items()}

"""From a recipe back to the point that gives it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomerge.foundations.errors import EvomergeError
from evomerge.merge_spaces.slots import Coupled, Idle, ValueSlot, Variable, by_place, silent
from evomerge.merge_spaces.slotted import SlotSpace
from evomerge.nouns.space import Point
from evomerge.recipe.effective import effective
from evomerge.recipe.plain import Recipe

TOLERANCE = 1e-4  # numbers of a recipe are written with six digits
_OTHER_SHAPE = (KeyError, IndexError, TypeError, ValueError, AttributeError)


def point_in(merge_space: SlotSpace, recipe: Recipe) -> dict[str, Any] | None:
    """The point of a space whose recipe this is, None where there is none.

    Args:
        merge_space: Whose point; of several layouts a recipe may be written in, only the
            space's own is read.
        recipe: Any mergekit recipe.
    """
    as_it_is = _point(merge_space, recipe.config)
    if as_it_is is not None:
        return as_it_is
    try:  # written in another way
        config = effective(recipe.config, merge_space.architecture).to_config()
    except (EvomergeError, *_OTHER_SHAPE):
        return None
    return _point(merge_space, config)


def _point(merge_space: SlotSpace, config: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        values = {slot: _value(merge_space, slot, config) for slot in merge_space.slots}
        free = set(_free(merge_space, values))
        point = dict(_coordinates(merge_space, values, free))
        inside = merge_space.space.decode(merge_space.space.encode(point))
        slots = [_as_written(slot, values, inside, free) for slot in values]
        found = merge_space.with_slots(slots).recipe(inside)
    except (*_OTHER_SHAPE, ZeroDivisionError):  # its weights have no sum
        return None
    return inside if _is_near(found.config, config) else None


def _free(space: SlotSpace, values: Mapping[ValueSlot, Any]) -> Iterator[ValueSlot]:
    """Where a recipe may hold anything, and makes the weights that the space's own makes."""
    yield from (slot for slot in values if isinstance(slot.reader, Idle))
    if space.starts:
        for slots in by_place(values).values():
            yield from silent({slot: values[slot] for slot in slots})


def _as_written(
    slot: ValueSlot, values: Mapping[ValueSlot, Any], point: Point, free: Collection[ValueSlot]
) -> ValueSlot:
    """A slot that gives what the recipe holds, where it makes the weights of the point."""
    if slot in free:
        return replace(slot, reader=values[slot])
    if isinstance(slot.reader, Coupled) and len(slot.reader.weights) == 1:
        # Divided by their sum: it may be what sources without a part have left.
        scale = sum(values[other] for other in _together(slot, values))
        return replace(slot, reader=scale * slot.value(point))
    return slot


def _coordinates(
    space: SlotSpace, values: Mapping[ValueSlot, Any], free: Collection[ValueSlot]
) -> Iterator[tuple[str, Any]]:
    for slot, value in values.items():
        if isinstance(slot.reader, Variable) and slot in free:
            yield from ((name, space.starts[name]) for name in slot.reader.names)
        elif isinstance(slot.reader, Variable):
            yield from zip(slot.reader.names, _controls(value), strict=True)
        elif isinstance(slot.reader, Coupled):
            yield from _coupled(slot, values)


def _coupled(slot: ValueSlot, values: Mapping[ValueSlot, Any]) -> Iterator[tuple[str, float]]:
    """The coordinates of weights that sum to 1, from the weights of all their sources."""
    together = [_controls(values[other]) for other in _together(slot, values)]
    for control, coupled in enumerate(slot.reader.weights):
        weights = [controls[control] for controls in together]
        yield from zip(coupled.names, coupled.encode(weights), strict=True)


def _together(slot: ValueSlot, values: Mapping[ValueSlot, Any]) -> list[ValueSlot]:
    """Of the sources whose weights sum to 1 with that of a slot, its own among them."""
    return [
        other
        for other in values
        if isinstance(other.reader, Coupled) and other.reader.weights == slot.reader.weights
    ]


def _controls(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _value(space: SlotSpace, slot: ValueSlot, config: Mapping[str, Any]) -> Any:
    """What a recipe holds where a slot stands."""
    part = config["slices"][slot.slice] if len(space.slices) > 1 else config
    if slot.model is not None:
        inputs = part["sources"] if len(space.slices) > 1 else part["models"]
        part = inputs[space.inputs.models.index(slot.model)]
    value = part["parameters"][slot.parameter]
    if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
        return {entry.get("filter"): entry["value"] for entry in value}[slot.filter]
    return value


def _is_near(one: Any, other: Any) -> bool:
    """Whether two recipes say the same but for the last digits."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_near(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_is_near, one, other))
    if isinstance(one, float) and isinstance(other, (int, float)) and not isinstance(other, bool):
        return abs(one - other) <= TOLERANCE
    return bool(one == other)

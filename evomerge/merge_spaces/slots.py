"""The values of a recipe: where each stands, and what of a point it is read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces.unit_weights import Affine, Shares
from evomerge.nouns.space import Point, Value
from evomerge.recipe.plain import rounded

Reader = Any  # a Variable, a Coupled, an Idle, or the fixed value itself


@dataclass(frozen=True)
class Variable:
    """A value that is one coordinate, or one per control point of a depth profile."""

    names: tuple[str, ...]

    def read(self, point: Point) -> Any:
        """The value a recipe holds."""
        values = [_written(point[name]) for name in self.names]
        return values[0] if len(values) == 1 else values


@dataclass(frozen=True)
class Coupled:
    """One of several weights that sum to 1, per control point of a depth profile."""

    weights: tuple[Shares | Affine, ...]
    index: int

    def read(self, point: Point) -> Any:
        """The weight a recipe holds."""
        values = [
            rounded(weights.decode([point[name] for name in weights.names])[self.index])
            for weights in self.weights
        ]
        return values[0] if len(values) == 1 else values


@dataclass(frozen=True)
class Idle:
    """A value that changes nothing, because the models hold equal tensors there."""

    value: Any

    def read(self, point: Point) -> Any:
        """The value a recipe holds."""
        return self.value


@dataclass(frozen=True)
class ValueSlot:
    """One value in a recipe: which parameter of which input, where, and where it is from."""

    parameter: str
    model: ModelName | None
    slice: int
    filter: str | None
    reader: Reader = field(hash=False)  # it may be a list

    def value(self, point: Point) -> Any:
        """The value for a point."""
        is_read = isinstance(self.reader, (Variable, Coupled, Idle))
        return self.reader.read(point) if is_read else self.reader


def by_place(slots: Iterable[ValueSlot]) -> dict[tuple[ModelName | None, int], list[ValueSlot]]:
    """The slots of each model, None for shared ones, in each slice."""
    found: dict[tuple[ModelName | None, int], list[ValueSlot]] = {}
    for slot in slots:
        found.setdefault((slot.model, slot.slice), []).append(slot)
    return found


def read(
    slots: Sequence[ValueSlot], point: Point, starts: Mapping[str, Value]
) -> Iterator[tuple[ValueSlot, Any]]:
    """The values of one model in one slice, for a point.

    A model of weight 0 takes no part: whatever else is said of it stands where a search starts,
    so that points that make the same weights are one recipe.

    Args:
        slots: Of the model in the slice.
        point: Of the space.
        starts: Parameter -> where a search starts; empty where a weight of 0 does not silence.
    """
    values = {slot: slot.value(point) for slot in slots}
    left_out = silent(values) if starts else ()
    for slot, value in values.items():
        yield slot, slot.value(starts) if slot in left_out else value


def silent(values: Mapping[ValueSlot, Any]) -> set[ValueSlot]:
    """What says nothing, because the weight is 0 wherever it acts.

    Args:
        values: What a recipe holds in each slot of one model in one slice.
    """
    weights = {slot.filter: v for slot, v in values.items() if slot.parameter == "weight"}
    zeros = {text for text, value in weights.items() if not np.any(value)}
    if not zeros:
        return set()
    # Of other filters than the weights', one may reach tensors of several of them.
    beside = {name for name, own in _filters_of(values).items() if own == [*weights]}
    return {
        slot
        for slot in values
        if slot.parameter != "weight"
        and isinstance(slot.reader, Variable)
        and (slot.filter in zeros if slot.parameter in beside else zeros == {*weights})
    }


def _filters_of(slots: Iterable[ValueSlot]) -> dict[str, list[str | None]]:
    """The filters of each parameter, in the order in which mergekit looks for one."""
    found: dict[str, list[str | None]] = {}
    for slot in slots:
        found.setdefault(slot.parameter, []).append(slot.filter)
    return found


def with_filters(values: list[tuple[str | None, Any]]) -> Any:
    """Mergekit's form: the value itself, or a list of filtered values."""
    if len(values) == 1 and values[0][0] is None:
        return values[0][1]
    return [
        {"value": value} if text is None else {"filter": text, "value": value}
        for text, value in values
    ]


def with_rest(values: list[tuple[str | None, Any]], number: float) -> list[tuple[str | None, Any]]:
    """The same, and a number (of what is none, the first value) for tensors no filter finds."""
    if any(text is None for text, _ in values):
        return values
    first = values[0][1]
    return [*values, (None, rounded(number) if isinstance(first, float) else first)]


def _written(value: Any) -> Any:
    return rounded(value) if isinstance(value, float) else value

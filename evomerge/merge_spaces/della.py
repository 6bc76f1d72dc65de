"""DELLA merges only where density and epsilon leave room for each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.foundations.errors import GenomeError
from evomerge.merge_spaces.slots import Idle, ValueSlot
from evomerge.nouns.space import Parameter, Real

_EPSILON = 0.15  # mergekit's, where nobody gives one


def check_della(
    parameters: Sequence[Parameter], slots: Sequence[ValueSlot], fixed: Mapping[str, Any]
) -> None:
    """Refuses a space with points that DELLA cannot merge.

    It needs 0 < density - epsilon and density + epsilon < 1, or a density of 1, which drops
    nothing.

    Args:
        parameters: Of the space.
        slots: Its values, fixed ones included.
        fixed: Values that hold for the whole recipe.

    Raises:
        GenomeError: some point leaves (0, 1).
    """
    epsilons = _spans("epsilon", parameters, slots, fixed)
    epsilon = max((high for _, high in epsilons), default=_EPSILON)
    for low, high in _spans("density", parameters, slots, fixed):
        if low < 1 and (low - epsilon <= 0 or high + epsilon >= 1):
            raise GenomeError(
                f"density in [{low:g}, {high:g}] with epsilon up to {epsilon:g} leaves "
                "(0, 1), and the merge would fail",
                where="genome.parameters.density",
                fix="Keep density - epsilon above 0 and density + epsilon below 1.",
            )


def _spans(
    name: str, parameters: Sequence[Parameter], slots: Sequence[ValueSlot], fixed: Mapping[str, Any]
) -> Iterator[tuple[float, float]]:
    """Smallest and largest value of all that a parameter of the method is at some place."""
    for parameter in parameters:
        if isinstance(parameter, Real) and parameter.name.partition("[")[0] == name:
            yield parameter.low, parameter.high
    readers = [slot.reader for slot in slots if slot.parameter == name]
    for value in (*(r.value if isinstance(r, Idle) else r for r in readers), fixed.get(name)):
        if isinstance(value, (int, float)):
            yield float(value), float(value)

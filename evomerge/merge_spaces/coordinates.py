"""One coordinate of a space: the range of a method's parameter, or what the genome says of it."""

from __future__ import annotations

from typing import Any

from evomerge.genome.merge import MergeDefinition
from evomerge.genome.parameters import Setting
from evomerge.methods import MethodParameter
from evomerge.space import Choice, Integer, Parameter, Real


def coordinate(
    parameter: MethodParameter,
    name: str,
    setting: Setting | None,
    definition: MergeDefinition,
    n_weighted: int,
    control: int,
) -> Parameter:
    """A parameter of a merge method as one of a space.

    Args:
        parameter: Of the method; searched, or opened by ``setting``.
        name: In the space.
        setting: What the genome says of it; None: the method's range.
        definition: The ``genome:`` block.
        n_weighted: How many models have a weight.
        control: Which of the values over depth it is.
    """
    if setting is not None:
        return _as_set(name, setting, control)
    range_ = parameter.range
    if range_ is None:
        raise ValueError(f"{parameter.name} is searched but has no range in the table")
    may_be_negative = definition.allow_negative_weights and range_.may_be_negative
    low = -range_.high if may_be_negative else range_.low
    initial = 1 / n_weighted if parameter.name == "weight" else None
    return Real(name, low, range_.high, log=range_.log, initial=initial)


def _as_set(name: str, setting: Setting, control: int) -> Parameter:
    initial: Any = setting.initial
    if isinstance(initial, list):
        initial = initial[control]
    if setting.range is not None:
        low, high = setting.range
        return Real(name, low, high, log=setting.log, initial=initial)
    if setting.integer is not None:
        return Integer(name, *setting.integer, initial=initial)
    return Choice(name, tuple(setting.choice or ()), initial=initial)

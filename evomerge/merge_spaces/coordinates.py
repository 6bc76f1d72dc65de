"""One coordinate of a space: the range of a method's parameter, or what the genome says of it."""

from __future__ import annotations

from typing import Any

from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.merge_method import MethodParameter
from evomerge.genome.parameter_values import Setting
from evomerge.merge_spaces.unit_weights import BEYOND
from evomerge.nouns.space import Choice, Integer, Parameter, Real


def bounds(
    parameter: MethodParameter, definition: MergeDefinition, *, is_beyond: bool
) -> tuple[float, float]:
    """Where a parameter is searched that the genome opens without a range.

    Args:
        parameter: Of the method.
        definition: The ``genome:`` block, which may allow negative weights.
        is_beyond: Whether weights go beyond the models, so that these lie inside.
    """
    range_ = parameter.range
    if range_ is None:  # the genome gives one, or values
        return 0.0, 1.0
    is_open = definition.allow_negative_weights and range_.may_be_negative
    low, high = -range_.high if is_open else range_.low, range_.high
    if is_beyond and parameter.name == "weight":
        return min(low, BEYOND[0]), max(high, BEYOND[1])
    return low, high


def coordinate(
    parameter: MethodParameter,
    name: str,
    setting: Setting | None,
    within: tuple[float, float],
    n_weighted: int,
    control: int,
) -> Parameter:
    """A parameter of a merge method as one of a space.

    Args:
        parameter: Of the method; searched, or opened by ``setting``.
        name: In the space.
        setting: What the genome says of it; None: it is searched within ``within``.
        within: Smallest and largest value where the genome gives none.
        n_weighted: How many models have a weight.
        control: Which of the values over depth it is.
    """
    if setting is not None:
        return _as_set(parameter, name, setting, n_weighted, control)
    is_log = parameter.range is not None and parameter.range.log
    return _real(parameter, name, *within, is_log, None, n_weighted)


def _as_set(
    parameter: MethodParameter, name: str, setting: Setting, n_weighted: int, control: int
) -> Parameter:
    initial: Any = setting.initial
    if isinstance(initial, list):
        initial = initial[control]
    if setting.range is not None:
        return _real(parameter, name, *setting.range, setting.log, initial, n_weighted)
    if setting.integer is not None:
        return Integer(name, *setting.integer, initial=initial)
    return Choice(name, tuple(setting.choice or ()), initial=initial)


def _real(
    parameter: MethodParameter,
    name: str,
    low: float,
    high: float,
    is_log: bool,
    initial: float | None,
    n_weighted: int,
) -> Real:
    """A range, with what the method knows of its values, whoever gave the range."""
    known = parameter.range
    if initial is None and known is not None:
        good = 1 / n_weighted if parameter.name == "weight" else known.start
        initial = good if good is not None and low <= good <= high else None
    scale = None if known is None or is_log else known.scale
    return Real(name, low, high, log=is_log, initial=initial, scale=scale)

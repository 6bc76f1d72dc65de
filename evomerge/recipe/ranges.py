"""The range that a number of a recipe is opened into, by what it is a number of.

| number | range around v |
|---|---|
| weight, scale | 0 to 2v, at least 0.5 wide; below 0 where v is |
| density, select_topk, t of slerp | v ± 0.25, within 0.05 (t: 0) and 1 |
| lambda | v / 2 to 2v |
| what the method searches by ratios (gamma, t of nearswap, r, alpha, ...) | v / 4 to 4v |
| max_iter | 1 to v, at least to 20 |

Numbers over depth, and those of several groups of layers, share one range around all of them.
DELLA's density and epsilon leave each other room. Truth values, and numbers that nobody searches
(eps, tol), stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from evomerge.genome.merge_method import Method, MethodParameter
from evomerge.recipe.effective import Entries, ParameterEntry

_DIGITS = 4
_WIDEST = 0.25  # of a fraction, to either side

Span = tuple[float, float]


def opened(
    method: Method,
    parameter: MethodParameter,
    entries: Entries,
    bounds: Span | None = None,
    *,
    over_depth: bool = True,
) -> Any:
    """The setting of a genome that begins at a recipe's values; the values where it stays.

    Args:
        method: The recipe's merge method.
        parameter: What the values are of.
        entries: The values, by filter.
        bounds: Where the values may lie; None: wherever they mean something.
        over_depth: Whether a list is of values over depth; else of groups of layers, and their
            mean is where each begins.
    """
    settings = [_setting(method, parameter, entry, bounds) for entry in entries]
    for setting in settings if not over_depth else ():
        for key in ("value", "initial"):
            if isinstance(setting.get(key), list):
                setting[key] = _rounded(sum(setting[key]) / len(setting[key]))
    is_plain = len(settings) == 1 and set(settings[0]) == {"value"}
    if is_plain:
        return settings[0]["value"]
    return settings[0] if len(settings) == 1 and entries[0].filter is None else settings


def fixed(entries: Entries) -> Any:
    """A setting that stays as the recipe has it."""
    settings = [_named(entry, {"value": entry.value}) for entry in entries]
    is_plain = len(settings) == 1 and set(settings[0]) == {"value"}
    return settings[0]["value"] if is_plain else settings


def della_bounds(densities: Iterable[Entries], epsilons: Iterable[Entries]) -> dict[str, Span]:
    """Where DELLA's density and epsilon may lie so that it can merge at every point.

    It needs 0 < density - epsilon and density + epsilon < 1; a density of 1 stays.
    """
    values = [v for entries in densities for entry in entries for v in entry.values if v < 1]
    largest = max((v for es in epsilons for entry in es for v in entry.values), default=0.15)
    gap = min((min(v, 1 - v) for v in values), default=1.0) - largest
    if gap <= 0:
        return {}  # mergekit cannot merge the recipe itself
    epsilon = largest + gap / 3
    return {"density": (epsilon + gap / 3, 1 - epsilon - gap / 3), "epsilon": (0.0, epsilon)}


def _setting(
    method: Method, parameter: MethodParameter, entry: ParameterEntry, bounds: Span | None
) -> dict[str, Any]:
    if parameter.range is None or parameter.kind is bool:
        return _named(entry, {"value": entry.value})
    if parameter.kind is int:
        high = max(20, *entry.values)
        return _named(entry, {"integer": [1, high], "initial": entry.value})
    if method.name.startswith("della") and parameter.name == "density" and max(entry.values) >= 1:
        return _named(entry, {"value": entry.value})  # below 1 it would begin to drop
    spans = [_span(method, parameter, value) for value in entry.values]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    low, high = min(_rounded(low), *entry.values), max(_rounded(high), *entry.values)
    log = {"log": True} if parameter.range.log and low > 0 else {}
    if not low < high:
        return _named(entry, {"value": entry.value})
    return _named(entry, {"range": [low, high], **log, "initial": entry.value})


def _span(method: Method, parameter: MethodParameter, value: float) -> Span:
    bottom, top = parameter.bounds
    usual = parameter.range
    if parameter.name == "lambda" and value > 0:
        low, high = value / 2, 2 * value
    elif usual is not None and usual.log and value > 0:
        low, high = value / 4, 4 * value
    elif parameter.name in ("density", "select_topk") or (method.name, parameter.name) == (
        "slerp",
        "t",
    ):
        bottom, top = (0.0 if parameter.name == "t" else 0.05), 1.0
        low, high = value - _WIDEST, value + _WIDEST
    elif parameter.name == "epsilon":
        low, high = value / 2, 2 * value
    else:
        reach = max(2 * abs(value), 0.5)
        low, high = (0.0, reach) if value >= 0 else (-reach, 0.0)
    return max(low, bottom), min(high, top)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _named(entry: ParameterEntry, setting: dict[str, Any]) -> dict[str, Any]:
    return setting if entry.filter is None else {"filter": entry.filter, **setting}


def strongest(weights: Sequence[Entries]) -> int:
    """Which model's weights are nowhere small: where they are normalised, it stays fixed."""
    least = [min(abs(v) for entry in entries for v in entry.values) for entries in weights]
    return least.index(max(least))

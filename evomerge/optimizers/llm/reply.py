"""The reply of a language model, read strictly: a point of the space, or what is wrong with it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.nouns.space import Choice, Integer, Parameter, Real, Space, Value
from evomerge.optimizers.llm.prompt import written

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_BAD_JSON, _WRONG_SHAPE = "bad JSON", "wrong shape"
_MOST = 8  # complaints, and names in one of them, that are told at once


@dataclass(frozen=True)
class Proposal:
    """What a model proposes.

    Attributes:
        point: The mean, parameter name -> value, every parameter once.
        thought: Its reasons, as it gives them.
    """

    point: Mapping[str, Value]
    thought: str


class ReplyError(Exception):
    """A reply that is no proposal; its text tells the model what to mend.

    Args:
        complaint: That text.
        cause: The same in a word or two.
    """

    def __init__(self, complaint: str, cause: str) -> None:
        super().__init__(complaint)
        self.cause = cause


def read_reply(text: str, space: Space) -> Proposal:
    """Reads ``{"thought": ..., "mean": {NAME: VALUE, ...}}``; a fence around it is forgiven.

    The mean may also be a list of as many values as there are parameters, in their order.

    Raises:
        ReplyError: it is anything else, or a value is not one its parameter may take.
    """
    try:
        return _proposal(_object(text), space)
    except RecursionError:
        raise ReplyError("the reply is nested too deeply", _BAD_JSON) from None


def _proposal(found: dict[str, Any], space: Space) -> Proposal:
    if "mean" not in found:
        raise ReplyError('the object lacks the key "mean"', _WRONG_SHAPE)
    values = _named(found["mean"], space)
    complaints = [c for p in space for c in _complaints(p, values[p.name])]
    if complaints:
        raise ReplyError(_few(complaints, "; "), "values out of range")
    thought = found.get("thought", "")
    point = {p.name: _value(p, values[p.name]) for p in space}
    return Proposal(point, thought if isinstance(thought, str) else json.dumps(thought))


def _object(text: str) -> dict[str, Any]:
    if not text.strip():
        raise ReplyError("the reply is empty", _BAD_JSON)
    fenced = _FENCE.match(text)
    try:
        found = json.loads(fenced[1] if fenced else text, object_pairs_hook=_each_once)
    except ValueError as error:
        raise ReplyError(f"the reply is no JSON ({error})", _BAD_JSON) from None
    if not isinstance(found, dict):
        raise ReplyError("the reply is JSON, but no object", _WRONG_SHAPE)
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = sorted(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
    if twice:
        raise ReplyError(f"these keys stand twice: {_few(twice)}", _WRONG_SHAPE)
    return dict(pairs)


def _named(mean: Any, space: Space) -> dict[str, Any]:
    """Values by name, none missing and none too many."""
    names = [parameter.name for parameter in space]
    if isinstance(mean, list):
        if len(mean) != len(names):
            complaint = f'"mean" is a list of {len(mean)}, expected {len(names)} values'
            raise ReplyError(complaint, _WRONG_SHAPE)
        return dict(zip(names, mean, strict=True))
    if not isinstance(mean, dict):
        raise ReplyError('"mean" is neither an object nor a list', _WRONG_SHAPE)
    missing = [name for name in names if name not in mean]
    unknown = [name for name in mean if name not in set(names)]
    complaints = [f'"mean" lacks {_few(missing)}'] if missing else []
    complaints += [f'"mean" holds {_few(unknown)}, which are no parameters'] if unknown else []
    if complaints:
        raise ReplyError("; ".join(complaints), _WRONG_SHAPE)
    return mean


def _complaints(parameter: Parameter, value: Any) -> Iterator[str]:
    """What is wrong with a value, at most one sentence."""
    if isinstance(parameter, Choice):
        if _chosen(parameter, value) is None:
            allowed = ", ".join(json.dumps(v) for v in parameter.values)
            yield f"{parameter.name} is {_short(value)}, expected one of {allowed}"
        return
    expected = f"{'a number' if isinstance(parameter, Real) else 'a whole number'} in "
    expected += written(parameter)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_inside = is_number and parameter.low <= value <= parameter.high  # NaN is not
    if not is_inside or (isinstance(parameter, Integer) and value != int(value)):
        yield f"{parameter.name} is {_short(value)}, expected {expected}"


def _value(parameter: Parameter, value: Any) -> Value:
    """A value that was found right, as its parameter has it."""
    if isinstance(parameter, Choice):
        index = _chosen(parameter, value)
        assert index is not None  # it was found right
        return parameter.values[index]
    return int(value) if isinstance(parameter, Integer) else float(value)


def _chosen(parameter: Choice, value: Any) -> int | None:
    """The index of the value that is meant: true is not 1, but 1.0 is."""
    for index, known in enumerate(parameter.values):
        if isinstance(known, bool) == isinstance(value, bool) and known == value:
            return index
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _few(texts: list[str], between: str = ", ") -> str:
    rest = len(texts) - _MOST
    more = f"{between}and {rest} more" if rest > 0 else ""
    return between.join(texts[:_MOST]) + more

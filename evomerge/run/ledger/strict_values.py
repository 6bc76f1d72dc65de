"""Names, texts and numbers of a file that may be a stranger's: types that refuse what misleads."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from evomerge.foundations.python_packages import is_module_name
from evomerge.foundations.text_safety import harmless, offender
from evomerge.genome.yaml_file import MAX_DEPTH, MAX_INTEGER

STRICT = ConfigDict(strict=True, extra="allow")
_LARGEST = 10**9  # no run has as many trials, documents or threads

T = TypeVar("T")


def _harmless_already(text: str) -> str:
    found = offender(text)
    if found:
        raise ValueError(f"holds the character {found}")
    return text


def _a_name(text: str) -> str:
    if "\n" in text:
        raise ValueError("holds a line break")
    return _harmless_already(text)


def shallow(part: T) -> T:
    """The part, if it is nested no deeper than a recipe is and its texts are harmless."""
    level: list[Any] = [part]
    for _ in range(MAX_DEPTH + 1):
        level = [item for one in level for item in _items(one)]
        for text in (item for item in level if isinstance(item, str)):
            _harmless_already(text)
    if level:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return part


def _items(part: Any) -> list[Any]:
    if isinstance(part, dict):
        return [*part.keys(), *part.values()]
    return part if isinstance(part, list) else []


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _a_module(text: str) -> str:
    if not is_module_name(text):
        raise ValueError("is no name of a Python module")
    return text


Name = Annotated[str, AfterValidator(_a_name)]
Module = Annotated[str, AfterValidator(_a_module)]
Text = Annotated[str, AfterValidator(_harmless_already)]
Prose = Annotated[str, AfterValidator(harmless)]
Count = Annotated[int, Field(ge=0, le=_LARGEST)]
Positive = Annotated[int, Field(ge=1, le=_LARGEST)]
Threads = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Finite = Annotated[float, AfterValidator(_finite)]
Measured = Finite | Literal["inf", "-inf", "nan"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Device = Annotated[str, Field(pattern=r"^[a-z]{2,12}(:[0-9]{1,3})?$")]
Split = Literal["tasks", "validation", "holdout"]
Value = bool | Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)] | Finite | Text


def checked(shape: TypeAdapter[Any], content: Any) -> dict[str, Any]:
    """The content, if it has a shape.

    Raises:
        ValueError: it has another; says where and what.
    """
    try:
        found: dict[str, Any] = shape.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {first['msg']}" if path else first["msg"]) from error
    return found

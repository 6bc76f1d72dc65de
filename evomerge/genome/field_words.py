"""What a field of a block takes, in words: for lists and generated pages."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


def type_name(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        names = [type_name(a) for a in arguments if a is not type(None)]
        return " or ".join(dict.fromkeys(names))
    if origin in (list, tuple):
        return "list" if origin is list else "pair of " + type_name(arguments[0])
    if origin is dict:
        return "mapping"
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    words |= {"ModelName": "model", "OptimizerBlock": "block", "EvaluationBlock": "block"}
    words |= {
        "SpaceBlock": "block",
        "Execution": "block",
        "MergeDefinition": "block",
        "TokenizerBlock": "block",
    }
    return words.get(annotation.__name__, str(annotation.__name__))


def default(field: FieldInfo) -> str:
    """A default as YAML would hold it."""
    if field.default_factory is not None:
        made = field.default_factory()  # type: ignore[call-arg]  # ours take no argument
        return "" if isinstance(made, BaseModel) or not made else f"`[{', '.join(made)}]`"
    if field.default is PydanticUndefined:
        return "**required**"
    if field.default in (None, ""):
        return ""
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"

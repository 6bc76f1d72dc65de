"""Where a misplaced key of a genome belongs."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from evomerge.genome.methods import METHODS
from evomerge.genome.misfit import KeyPath
from evomerge.genome.yaml_file import dotted

# The top level comes first: its key is meant where a block has one of the same name.
_BLOCKS: tuple[str, ...] = ("", "genome", "optimizer", "evaluation", "execution")


def home_of(genome: type[BaseModel], path: KeyPath, known: Sequence[str]) -> str:
    """Where a key belongs that stands in a wrong block; empty where no block knows it.

    Args:
        genome: The top level.
        path: Where it stands.
        known: The keys of the block it stands in.
    """
    name = str(path[-1])
    if METHODS.has_parameter(name) and "parameters" in known:
        return dotted((*path[:-1], "parameters", name))
    for block in _BLOCKS:
        if name in keys_at(genome, (block,) if block else ()):
            return f"{block}.{name}" if block else f"the top level: `{name}:`"
    return ""


def keys_at(model: type[BaseModel], path: KeyPath) -> Iterator[str]:
    """Keys that may stand at a path below a model."""
    classes = [model]
    for part in path:
        annotations = [
            c.model_fields[str(part)].annotation for c in classes if str(part) in c.model_fields
        ]
        below = [found for a in annotations for found in _classes_in(a)]
        classes = below or classes
    for found in classes:
        for shown in _entry_classes(found) or [found]:
            yield from shown.model_fields


def _entry_classes(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Settings stands in the file as its entries do."""
    if set(model.model_fields) == {"entries"}:
        return list(_classes_in(model.model_fields["entries"].annotation))
    return []


def _classes_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, list, dict, tuple, Annotated):
        for argument in get_args(annotation):
            yield from _classes_in(argument)

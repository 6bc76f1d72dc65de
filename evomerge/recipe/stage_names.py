"""What the stages of a recipe are called: names that mean nothing else in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAME = "evomerge-stage-{}"


def stage_name(index: int) -> str:
    """What the model of a stage is called, from 0."""
    return NAME.format(index + 1)


def with_names(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Documents that call one another by :func:`stage_name`, with these names."""
    return [{"name": stage_name(index), **one} for index, one in enumerate(documents)]

"""What the stages of a recipe are called: names that mean nothing else in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NAME = "evomerge-stage-{}"


def stage_name(index: int) -> str:
    """What the model of a stage is called, from 0."""
    return _NAME.format(index + 1)


def multi_config(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The configuration of stages that call one another by :func:`stage_name`."""
    *before, last = documents
    named = [{"name": stage_name(index), **stage} for index, stage in enumerate(before)]
    return {"stages": [*named, dict(last)]}

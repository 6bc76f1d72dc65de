"""A part of a report, ready to be drawn, whoever draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FAILED = "failed"  # a cell that is drawn as a warning


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        name: What programs call it.
        title: Its heading.
        head: Of each column; the first one names the rows.
        rows: As many cells each.
        notes: Sentences below the table.
        data: The same for programs.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    data: Mapping[str, Any]

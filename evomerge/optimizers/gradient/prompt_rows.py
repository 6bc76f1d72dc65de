"""Rows of prompts in JSON lines, and the text of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evomerge.foundations.errors import GenomeError
from evomerge.foundations.reading import read_text

# Where a row has no column named in the genome, the first of these is its text.
COLUMNS = ("text", "prompt", "instruction", "question", "query", "input")
_WHERE = "optimizer.prompts"


def rows_of(path: Path) -> Iterator[Any]:
    """Each row of a file, one line after the other.

    Raises:
        GenomeError: the file, or a line of it, cannot be read.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise GenomeError(f"{path} cannot be read ({error})", where=_WHERE) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _row(line, f"{path}:{number}")


def _row(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except (RecursionError, ValueError) as error:
        raise GenomeError(
            f"{place} is no JSON ({error})", where=_WHERE, fix="Write one JSON object a line."
        ) from error


def text_of(row: Any, column: str | None, place: str) -> str:
    """The text of a row.

    Args:
        row: As it was read.
        column: Where its text is; None for the first that is known.
        place: Where the row is from, for people.

    Raises:
        GenomeError: there is no text.
    """
    names = (column,) if column is not None else COLUMNS
    for name in names:
        if isinstance(row, Mapping) and isinstance(row.get(name), str):
            return str(row[name])
    raise GenomeError(
        f"a row of {place} has no text under {' or '.join(map(str, names))}",
        where=_WHERE,
        fix="Name the column.",
    )


def refuse_unreadable(path: Path, column: str | None) -> None:
    """Reads a file of prompts to its end.

    Raises:
        GenomeError: a row cannot be read, or has no text.
    """
    for row in rows_of(path):
        text_of(row, column, str(path))

"""The files that tasks of a user's own are made of: texts in UTF-8, rows of JSON, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evomerge.foundations.errors import GenomeError, UnreadableError, why
from evomerge.foundations.reading import is_there, read_bytes

MOST_BYTES = 1 << 30  # of a file


def task_text(file: str) -> str:
    """What a file holds.

    Raises:
        GenomeError: it is missing, or no text in UTF-8, with the line.
    """
    path = Path(file)
    if not is_there(path):
        raise GenomeError(f"no file {file!r}", fix="Mend the path.")
    try:
        content = read_bytes(path, MOST_BYTES)
    except UnreadableError as error:
        raise GenomeError(f"{file!r}: {error.problems[0].what}", fix="Name a text file.") from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        n_before = content.count(b"\n", 0, error.start)
        raise wrong_line(file, n_before + 1, "is no text in UTF-8") from error
    if "\0" in text:
        n_before = text.count("\n", 0, text.index("\0"))
        raise wrong_line(file, n_before + 1, "holds zero bytes, no text")
    return text


def json_rows(file: str) -> Iterator[tuple[int, Any]]:
    """Each line of a ``.jsonl`` file and its number, counted from 1; blank lines are none.

    Raises:
        GenomeError: the file cannot be read, or a line is no JSON.
    """
    return rows_in(file, task_text(file))


def rows_in(file: str, text: str) -> Iterator[tuple[int, Any]]:
    """The same of a text that was read."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise wrong_line(file, number, f"is no JSON ({why(error)})") from error


def text_under(row: Any, key: str, file: str, line: int) -> str:
    """A text of a row, which is neither missing nor blank.

    Args:
        row: As JSON has it.
        key: Of the text.
        file: Where it is from.
        line: Counted from 1.

    Raises:
        GenomeError: there is none, or it is no text that can be written.
    """
    own = row.get(key) if isinstance(row, dict) else None
    if not isinstance(own, str) or not own.strip():
        raise wrong_line(file, line, f"has no text under {key!r}")
    try:
        own.encode()
    except UnicodeEncodeError as error:
        raise wrong_line(file, line, "holds half of a character") from error
    return own


def wrong_line(file: str, line: int, what: str) -> GenomeError:
    """What is wrong with a line, counted from 1."""
    return GenomeError(f"line {line} of {file!r} {what}", fix="Mend the file.")

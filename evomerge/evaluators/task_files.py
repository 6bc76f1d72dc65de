"""The files that tasks of a user's own are made of: texts in UTF-8, rows of JSON, line by line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evomerge.foundations.errors import GenomeError, Problem, UnreadableError, why
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


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


def named_rows(file: str, read: Callable[[Any, str, int], N], key: str) -> dict[str, N]:
    """What the rows of a file are, by their names.

    Args:
        file: A `.jsonl` file.
        read: Makes something of a row; is given the file and the line for its errors.
        key: What a name is called in the file.

    Raises:
        GenomeError: it cannot be read, a row is none of these, or a name stands twice; all of it.
    """
    found: dict[str, N] = {}
    problems: list[Problem] = []
    for line, row in json_rows(file):
        try:
            one = read(row, file, line)
            if one.name in found:
                raise wrong_line(file, line, f"has the {key} {one.name!r} a second time")
            found[one.name] = one
        except GenomeError as error:
            problems += error.problems
    if problems:
        raise GenomeError.of(problems)
    return found


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

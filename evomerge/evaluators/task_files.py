"""The files that tasks of a user's own are made of: texts in UTF-8, rows of JSON, line by line."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evomerge.foundations.counted import counted
from evomerge.foundations.errors import GenomeError, Problem, UnreadableError, nearest, why
from evomerge.foundations.reading import is_there, read_bytes

MOST_BYTES = 1 << 30  # of a file
MOST_TOLD = 10  # rows of a file of which it is told what is wrong
_LONGEST = 60  # characters of a value that is quoted


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
    content = content.removeprefix(BOM_UTF8)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        n_before = content.count(b"\n", 0, error.start)
        raise wrong_line(file, n_before + 1, "is no text in UTF-8") from error
    if "\0" in text:
        n_before = text.count("\n", 0, text.index("\0"))
        raise wrong_line(file, n_before + 1, "holds zero bytes, no text")
    return text


def is_rows(file: str) -> bool:
    """Whether a file has a row of JSON in each line, by its name."""
    return Path(file).suffix.lower() == ".jsonl"


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
T = TypeVar("T")
R = TypeVar("R")


def all_read(rows: Iterable[R], read: Callable[[R], T]) -> list[T]:
    """What each of some rows is.

    Args:
        rows: Of a file, as they come; what ends them early is told beside what is wrong before.
        read: Makes something of one.

    Raises:
        GenomeError: rows are none of these: the first few of them, and how many more.
    """
    found: list[T] = []
    problems: list[Problem] = []
    try:
        for row in rows:
            try:
                found.append(read(row))
            except GenomeError as error:
                problems += error.problems
    except GenomeError as error:
        problems += error.problems
    if len(problems) > MOST_TOLD:
        n_more = counted(len(problems) - MOST_TOLD, "more row")
        problems[MOST_TOLD:] = [Problem(f"{n_more} of the same file cannot be read either")]
    if problems:
        raise GenomeError.of(problems)
    return found


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

    def note(numbered: tuple[int, Any]) -> None:
        line, row = numbered
        one = read(row, file, line)
        if one.name in found:
            raise wrong_line(file, line, f"has the {key} {one.name!r} a second time")
        found[one.name] = one

    all_read(json_rows(file), note)
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
    flaw = flaw_of(row, key)
    if flaw:
        raise wrong_line(file, line, flaw)
    return str(row[key])


def flaw_of(row: Any, key: str) -> str:
    """What is wrong with the text under a key of a row of JSON; empty where it can be read."""
    if not isinstance(row, dict):
        return f"has no text under {key!r}, got {brief(row)}, expected an object with one"
    if key not in row:
        names = [*map(str, row)]
        has = ", ".join(names[:MOST_TOLD]) or "nothing"
        return f"has no text under {key!r}{nearest(key, names)} (it has: {has})"
    own = row[key]
    if not isinstance(own, str) or not own.strip():
        return f"has no text under {key!r}, got {brief(own)}, expected one that is not blank"
    return "" if is_whole(own) else "holds half of a character"


def is_whole(text: str) -> bool:
    """Whether a text can be written: no character of it is cut in half."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def got(row: Any, key: str) -> str:
    """What a row has under a key, as a message quotes it."""
    return brief(row[key]) if isinstance(row, dict) and key in row else "nothing"


def brief(value: Any) -> str:
    """A value of JSON, as a message quotes it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no more than 4,300 digits
        text = f"{type(value).__name__} with a number that is too long to be written"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def wrong_line(file: str, line: int, what: str) -> GenomeError:
    """What is wrong with a line, counted from 1."""
    return GenomeError(f"line {line} of {file!r} {what}", fix="Mend the file.")

"""The user's folders of tasks, looked at before lm-eval and datasets open what is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from evomerge.foundations.errors import Problem, UnreadableError
from evomerge.foundations.reading import is_file, is_folder, kind_of, opened, read_bytes

MAX_BYTES = 1 << 24  # of a task's YAML
MAX_DEPTH = 100  # levels; lm-eval's parser in C ends the process where they are too many
_YAML = (".yaml", ".yml")
_DATA = (".json", ".jsonl", ".csv", ".tsv", ".txt")
_BEGINNING = 1 << 10  # bytes
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def missing(search_path: Sequence[str]) -> Iterator[Problem]:
    """Folders that are not there."""
    for position, folder in enumerate(search_path):
        if not is_folder(folder):
            yield Problem(f"no folder {folder!r}", f"task_search_path[{position}]")


def unreadable(search_path: Sequence[str]) -> Iterator[Problem]:
    """What in folders would keep a reader waiting or end it."""
    for position, folder in enumerate(search_path):
        where = f"task_search_path[{position}]"
        for place, _, names in os.walk(folder):
            for path in (Path(place, name) for name in sorted(names)):
                reason = _reason(path)
                if reason:
                    yield Problem(f"{path} {reason}", where, "Remove it, or put a file there.")


def _reason(path: Path) -> str:
    """Why a file cannot be read; empty where it can, and where nothing is said of it."""
    kind = kind_of(path)
    if kind not in ("", "a folder"):
        return f"is {kind}, expected a regular file"
    if path.suffix in _DATA and _is_hole(path):
        return "holds zero bytes where text should begin"
    if path.suffix not in _YAML or not is_file(path):
        return ""
    try:
        content = read_bytes(path, MAX_BYTES)
    except UnreadableError as error:
        return error.problems[0].what
    return f"is nested deeper than {MAX_DEPTH} levels" if _is_deep(content) else ""


def _is_hole(path: Path) -> bool:
    """Whether a file begins with nothing but zeros; datasets look for the end of its first line."""
    try:
        with opened(path) as file:
            beginning = file.read(_BEGINNING)
    except UnreadableError:
        return False  # told where it is used
    return len(beginning) == _BEGINNING and not any(beginning)


def _is_deep(content: bytes) -> bool:
    """Whether YAML is nested too deeply; what is no YAML is told where it is used."""
    depth = 0
    try:
        for event in yaml.parse(content, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                return True
    except (yaml.YAMLError, ValueError):
        return False
    return False

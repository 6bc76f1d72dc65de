"""What was learned of files by reading them, in the user's cache, while they do not change.

A file is the one it was where device, inode, size and both times (of its content, and of its
inode, which no program can set) are what they were. A file that was written a moment before it
was read is read again: a clock tells two changes apart only where it has moved between them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from evomerge.foundations.canonical import digest
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.files import write_atomic
from evomerge.foundations.reading import is_file, listed, read_bytes

_SETTLED_NS = 2_000_000_000  # since the last change; the coarsest clock of a file system has 2 s
_MOST_FILES = 4096  # of a kind
_LOG = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class FileState:
    """What the system says of a file without reading it."""

    device: int
    inode: int
    size: int
    content_ns: int
    inode_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileState:
        """The state in an answer of the system."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def changed_ns(self) -> int:
        """When it changed last, in nanoseconds since 1970."""
        return max(self.content_ns, self.inode_ns)


@dataclass(frozen=True)
class _Entry(Generic[T]):
    states: tuple[FileState, ...]
    found: T


def cache_folder(kind: str) -> Path | None:
    """``evomerge/KIND`` in ``XDG_CACHE_HOME``, else in ``~/.cache``; None without a home."""
    above = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(above, "evomerge", kind) if os.path.isabs(above) else None


class Kept(Generic[T]):
    """One small file for what is known of some files; processes may share the folder.

    Args:
        kind: What is kept, in a word: the folder's name.
        content: The type of it, which JSON can hold.
        folder: Where it is kept; None: in the user's cache, and nowhere without a home.
        now: Nanoseconds since 1970.
        most: Files kept; the oldest go.
    """

    def __init__(
        self,
        kind: str,
        content: Any,
        folder: Path | None = None,
        now: Callable[[], int] = time.time_ns,
        most: int = _MOST_FILES,
    ) -> None:
        self._kind = kind
        self._entry: TypeAdapter[_Entry[T]] = TypeAdapter(_Entry[content])
        self._folder = folder or cache_folder(kind)
        self._now = now
        self._most = most

    def recall(self, *states: FileState) -> T | None:
        """What is known of files in these states, None where nothing is."""
        file = self._file(states)
        if file is None or not is_file(file):
            return None
        try:
            entry = self._entry.validate_json(read_bytes(file))
        except (EvomergeError, ValidationError):
            return None  # torn or foreign: the file is read again, and this is written anew
        return entry.found if entry.states == states else None

    def keep(self, found: T, *states: FileState) -> None:
        """Keeps it, unless a file has changed too recently to tell it from a later one."""
        file, now = self._file(states), self._now()
        if file is None or any(now - state.changed_ns < _SETTLED_NS for state in states):
            return
        try:
            write_atomic(file, self._entry.dump_json(_Entry(states, found)))
            _forget_oldest(file.parent, self._most)
        # a home that is full or read-only costs time alone
        except (EvomergeError, OSError) as error:
            _LOG.info("%s are not kept: %s", self._kind, error)

    def _file(self, states: tuple[FileState, ...]) -> Path | None:
        return self._folder and self._folder / f"{digest([*map(astuple, states)])}.json"


def _forget_oldest(folder: Path, most: int) -> None:
    files = listed(folder)
    if len(files) > most:
        files.sort(key=lambda file: file.stat().st_mtime)
        for file in files[: len(files) // 2]:
            file.unlink(missing_ok=True)

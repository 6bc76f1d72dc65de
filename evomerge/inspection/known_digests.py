"""Digests that were computed before, in the user's cache, of files that did not change since.

A file is the one it was where device, inode, size and both times (of its content, and of its
inode, which no program can set) are what they were. A file that was written a moment before it
was read is read again: a clock tells two changes apart only where it has moved between them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from evomerge.errors import EvomergeError
from evomerge.files import digest, write_atomic
from evomerge.reading import is_file, listed, read_bytes

_SETTLED_NS = 2_000_000_000  # since the last change; the coarsest clock of a file system has 2 s
_MOST_FILES = 4096  # kept; the oldest go
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileDigest:
    """What a file holds.

    Attributes:
        whole: SHA-256 of all its bytes, stretch by stretch.
        tensors: Tensor name -> SHA-256 of its dtype, shape and values; empty where the file
            holds none.
    """

    whole: str
    tensors: Mapping[str, str]


@dataclass(frozen=True)
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
class _Entry:
    state: FileState
    digest: FileDigest


_ENTRY = TypeAdapter(_Entry)


def cache_folder() -> Path | None:
    """``evomerge/digests`` in ``XDG_CACHE_HOME``, else in ``~/.cache``; None without a home."""
    above = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(above, "evomerge", "digests") if os.path.isabs(above) else None


class KnownDigests:
    """One small file per digest; processes may share the folder.

    Args:
        folder: Where they are; None: nothing is kept.
        now: Nanoseconds since 1970.
    """

    def __init__(self, folder: Path | None = None, now: Callable[[], int] = time.time_ns) -> None:
        self._folder = folder or cache_folder()
        self._now = now

    def recall(self, state: FileState) -> FileDigest | None:
        """The digest of a file in a state, None where it is not known."""
        file = self._file(state)
        if file is None or not is_file(file):
            return None
        try:
            entry = _ENTRY.validate_json(read_bytes(file))
        except (EvomergeError, ValidationError):
            return None  # torn or foreign: the file is read again, and this is written anew
        return entry.digest if entry.state == state else None

    def keep(self, state: FileState, found: FileDigest) -> None:
        """Keeps a digest, unless the file has changed too recently to tell it from a later one."""
        file = self._file(state)
        if file is None or self._now() - state.changed_ns < _SETTLED_NS:
            return
        try:
            write_atomic(file, _ENTRY.dump_json(_Entry(state, found)))
            self._forget_oldest(file.parent)
        except (
            EvomergeError,
            OSError,
        ) as error:  # a home that is full or read-only costs time alone
            _LOG.info("digests are not kept: %s", error)

    def _file(self, state: FileState) -> Path | None:
        return self._folder and self._folder / f"{digest(astuple(state))}.json"

    @staticmethod
    def _forget_oldest(folder: Path) -> None:
        files = listed(folder)
        if len(files) > _MOST_FILES:
            files.sort(key=lambda file: file.stat().st_mtime)
            for file in files[: len(files) // 2]:
                file.unlink(missing_ok=True)

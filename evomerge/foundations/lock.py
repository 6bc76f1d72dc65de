"""One process at a time: writes a run folder, or makes what others wait for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from evomerge.foundations.errors import LedgerError, UnreadableError
from evomerge.foundations.files import writing
from evomerge.foundations.reading import is_file, read_text

_LOCK = ".lock"
_LONGEST_ID = 100  # bytes of what names a process


def refuse_written(folder: Path) -> None:
    """Does nothing where no process writes a run folder, or none has ever been there.

    Raises:
        LedgerError: another process writes it.
    """
    if is_file(folder / _LOCK):
        RunLock(folder).release()


class RunLock:
    """Held while a process writes a run folder; the system frees it when the process dies.

    Args:
        folder: The run folder; exists.

    Raises:
        LedgerError: another process holds it.
        LostFileError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / _LOCK
        self._lock = FileLock(file)
        self._owner = folder / ".lock-owner"
        with writing(file):
            self._acquire(folder)

    def _acquire(self, folder: Path) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise LedgerError(
                f"{self._owner_name()} is writing this run right now",
                where=str(folder),
                fix="Wait for it, stop it, or choose another folder with --run-dir.",
            ) from error
        self._owner.write_text(str(os.getpid()), encoding="utf-8")

    def _owner_name(self) -> str:
        owner = self._owner_id()
        return f"process {owner}" if owner else "another process, begun at this moment,"

    def _owner_id(self) -> str:
        """Of the process that holds it; empty where it has not said so yet."""
        try:
            return read_text(self._owner, _LONGEST_ID, follow=False).strip()
        except UnreadableError:  # it died, or has only just begun
            return ""

    def release(self) -> None:
        """Lets others write."""
        with suppress(OSError):  # the folder is gone, or a file is in its place
            if self._owner_id() == str(os.getpid()):
                self._owner.unlink()
        self._lock.release()


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Waits until no other process holds a file, which is made, then holds it.

    The system frees it when the process dies. On a file system without locks nobody waits.
    """
    lock = FileLock(file)
    with suppress(NotImplementedError):  # a file system without locks: nobody waits
        lock.acquire()
    try:
        yield
    finally:
        lock.release()

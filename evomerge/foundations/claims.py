"""Work that one of several processes does for all of them: who has claimed what.

A claim is a lock on one byte of a file, which the system frees when its process dies. Processes
of machines that share no locks know nothing of one another, and may do the same work.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.files import writing

try:
    import fcntl
except ImportError:  # on Windows, where nobody is kept from anything
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

LOOKS_EVERY = 0.1  # seconds, whoever waits for others
_BUSY = (errno.EACCES, errno.EAGAIN)  # POSIX leaves systems the choice


class Claims:
    """What processes claim in one file.

    There is one of these for a file in a process: the system forgets all claims of a process
    when that closes the file once.

    Args:
        file: Made when something is claimed first; its folder too.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._handle: int | None = None

    def take(self, keys: Iterable[str]) -> set[str]:
        """Claims what nobody else has; which that is.

        Raises:
            LostFileError: the file cannot be made.
        """
        return {key for key in keys if self._locked(key)}

    def give_back(self, keys: Iterable[str]) -> None:
        """Lets others have them."""
        if fcntl is not None and self._handle is not None:
            for key in keys:
                with suppress(OSError):  # the file system has no locks
                    fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _place(key))

    @contextmanager
    def held(self, key: str, deadline: Deadline) -> Iterator[None]:
        """Has something once nobody else has it.

        Raises:
            TrialTimeoutError: the deadline is over before.
            LostFileError: the file cannot be made.
        """
        while not self.take([key]):
            deadline.check()
            time.sleep(LOOKS_EVERY)
        try:
            yield
        finally:
            self.give_back([key])

    def close(self) -> None:
        """Gives all back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _locked(self, key: str) -> bool:
        if fcntl is None:
            return True
        if self._handle is None:
            with writing(self._file):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._handle = os.open(self._file, flags, 0o644)
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except OSError as error:
            return error.errno not in _BUSY  # else there are no locks: nobody can be told
        return True


def _place(key: str) -> int:
    """The byte that stands for a key; two that share one wait for each other, no more."""
    return int.from_bytes(sha256(key.encode()).digest()[:7], "big")

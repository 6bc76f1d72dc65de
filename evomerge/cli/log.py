"""log.txt of a run folder: what libraries say, kept off the terminal."""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evomerge.foundations.files import writing
from evomerge.foundations.secret import without_keys
from evomerge.foundations.text_safety import harmless

_CAPACITY = 10_000  # records kept until the run folder exists
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """A full disk ends the run where it matters, at the ledger; not in a line of the log."""


class _Harmless(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The line, without keys and with nothing in it that a terminal obeys."""
        return harmless(without_keys(super().format(record)))


class RunLog:
    """Keeps log records in memory until :meth:`write_to` names a file."""

    def __init__(self) -> None:
        self._memory = logging.handlers.MemoryHandler(_CAPACITY, flushLevel=logging.CRITICAL + 1)

    def write_to(self, path: Path) -> None:
        """Writes what was kept, and everything from now on."""
        with writing(path):
            file = _File(path, encoding="utf-8")
        file.setFormatter(_Harmless(_FORMAT))
        self._memory.setTarget(file)
        self._memory.flush()
        self._memory.capacity = 1

    def close(self) -> None:
        """Writes what is left."""
        file = self._memory.target
        self._memory.close()
        if file is not None:
            file.close()


@contextmanager
def run_log() -> Iterator[RunLog]:
    """Takes the log records and warnings of all libraries for the length of a run."""
    log, root = RunLog(), logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [log._memory]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield log
    finally:
        logging.captureWarnings(False)
        root.handlers[:], root.level = before, level
        log.close()

"""What libraries say, kept off the terminal: in memory, then in a file that asks for it."""

from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evomerge.foundations.files import writing
from evomerge.foundations.secret import without_keys
from evomerge.foundations.text_safety import harmless

_CAPACITY = 10_000  # records kept until somebody asks for them
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """A full disk ends the run where it matters, at the ledger; not in a line of the log."""


class _Harmless(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The line, without keys and with nothing in it that a terminal obeys."""
        return harmless(without_keys(super().format(record)))


class _Kept(logging.handlers.MemoryHandler):
    """Keeps records until there is a file, and hands on those that come after."""

    def __init__(self) -> None:
        super().__init__(_CAPACITY, flushLevel=logging.CRITICAL + 1)

    def write_to(self, file: logging.Handler | None) -> None:
        self.setTarget(file)
        self.flush()
        self.capacity = 1 if file is not None else _CAPACITY


@contextmanager
def kept_log() -> Iterator[None]:
    """Keeps the log records and warnings of all libraries for the length of a command."""
    kept, root = _Kept(), logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [kept]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:], root.level = before, level
        file = kept.target
        kept.close()
        if file is not None:
            file.close()


def log_to(path: Path) -> Callable[[], None]:
    """Writes log records into a file from now on, after those that were kept so far.

    Returns:
        What ends it.

    Raises:
        LostFileError: the file cannot be written.
    """
    with writing(path):
        file = _File(path, encoding="utf-8")
    file.setFormatter(_Harmless(_FORMAT))
    root = logging.getLogger()
    keepers = [handler for handler in root.handlers if isinstance(handler, _Kept)]
    for keeper in keepers:
        keeper.write_to(file)
    if not keepers:
        root.addHandler(file)

    def end() -> None:
        for keeper in keepers:
            keeper.write_to(None)
        root.removeHandler(file)
        file.close()

    return end

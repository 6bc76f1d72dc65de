"""What libraries say, kept off the terminal: in memory, then in a file that asks for it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evomerge.foundations.files import writing
from evomerge.foundations.secret import without_keys
from evomerge.foundations.text_safety import harmless

_CAPACITY = 10_000  # last records kept until somebody asks for them
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """A full disk ends the run where it matters, at the ledger; not in a line of the log."""


class _Harmless(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The line, without keys and with nothing in it that a terminal obeys."""
        return harmless(without_keys(super().format(record)))


class _Kept(logging.Handler):
    """Keeps the last records until there is a file, and hands on those that come after."""

    def __init__(self) -> None:
        super().__init__()
        self.file: logging.Handler | None = None
        self._records: deque[logging.LogRecord] = deque(maxlen=_CAPACITY)

    def emit(self, record: logging.LogRecord) -> None:
        if self.file is None:
            self._records.append(record)
        else:
            self.file.handle(record)

    def write_to(self, file: logging.Handler | None) -> None:
        self.file = file
        while file is not None and self._records:
            file.handle(self._records.popleft())


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
        kept.close()
        if kept.file is not None:
            kept.file.close()


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

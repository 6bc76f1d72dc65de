"""The file of a ledger, held open, so that a run does not write on where its history is gone.

A path may be deleted, replaced, cut or moved away while a run writes. Opened by its name for
every line, it would quietly become a new file without the lines before. All lines are known here:
what was pulled away is written again, as a run folder that can be continued.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evomerge.foundations.errors import LedgerError, LostFileError
from evomerge.foundations.files import write_atomic, writing
from evomerge.foundations.reading import is_file, is_there, read_bytes
from evomerge.nouns.evaluation import Outcome
from evomerge.run.ledger.belongings import Belongings
from evomerge.run.ledger.kept_documents import write_documents
from evomerge.run.ledger.run_folder import RunFolder

Identity = tuple[int, int]  # device and number of a file on it
MAX_BYTES = 1 << 30  # of a ledger; a trial takes a few thousand
_NAMES_TRIED = 100
BROKEN_FIX = (
    "Restore the file from a copy, or add --fork NEW_RUN to start a run with the trials that can "
    "still be read."
)


class LedgerFile:
    """A whole ledger, to be appended to by this process alone.

    Args:
        folder: Of the run; its files are there.

    Attributes:
        genome: Content of the folder's genome.yml, for a folder that takes its place.

    Raises:
        LostFileError: one cannot be opened.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        with writing(folder.ledger):
            documents = folder.path / "documents"
            documents.mkdir(exist_ok=True)
            self.genome = read_bytes(folder.genome) if is_file(folder.genome) else b""
            self._lines = read_bytes(folder.ledger, MAX_BYTES).splitlines(keepends=True)
            self._length = sum(map(len, self._lines))
            self._belongings = Belongings(folder.path)
            self._handle = os.open(folder.ledger, os.O_RDWR | os.O_APPEND)
            self._freed = weakref.finalize(self, os.close, self._handle)
            left = os.fstat(self._handle)
            self._times = _times(left)
            self._expected = {
                folder.ledger: _identity(left),
                documents: _identity(self._belongings.documents),
            }

    def write(self, line: str, documents: str = "", outcome: Outcome | None = None) -> None:
        """Appends a line, the documents it tells of first, and waits until the disk has both.

        Args:
            line: Without its end.
            documents: Name of their file; empty where there are none.
            outcome: Whose they are.

        Raises:
            LostFileError: the disk is full, or the file cannot be written; part of the line may
                be in it. Or it is no longer the file it was: says where everything is now.
        """
        self._belongings.hold()
        reason = self._lost()
        self._lines.append(f"{line}\n".encode())
        if reason:
            raise self._rescued(reason, documents, outcome)
        if outcome is not None and write_documents(
            self._folder.path / "documents" / documents, outcome
        ):
            self._belongings.note(documents)
        self.append(self._lines[-1])

    def append(self, line: bytes) -> None:
        """Writes a whole line to the open file."""
        with writing(self._folder.ledger):
            left = line
            while left:
                left = left[os.write(self._handle, left) :]
            os.fsync(self._handle)
        self._length += len(line)
        self._times = _times(os.fstat(self._handle))

    def close(self) -> None:
        """Frees the files."""
        self._freed()
        self._belongings.close()

    def _lost(self) -> str:
        """What is no longer as it was left, with what became of it; empty where all is."""
        for path, identity in self._expected.items():
            try:
                found = path.stat()
            except OSError as error:
                return f"{path.name} is gone ({error.strerror})"
            if _identity(found) != identity:
                return f"{path.name} was replaced by another"
        left = os.fstat(self._handle)
        if left.st_size != self._length:
            return f"{self._folder.ledger.name} has {left.st_size} bytes instead of {self._length}"
        # Backups and the like touch a file, too: only what it says counts.
        if _times(left) != self._times and not self._says_the_same():
            return f"{self._folder.ledger.name} was changed in place"
        self._times = _times(left)
        return ""

    def _says_the_same(self) -> bool:
        return os.pread(self._handle, self._length, 0) == b"".join(self._lines)

    def _rescued(self, reason: str, documents: str, outcome: Outcome | None) -> LostFileError:
        """Writes a new run folder, with all that is left; the error that says where."""
        failure = ""
        for path in self._places():
            try:
                gone = self._written_to(path, documents, outcome)
            except LostFileError as error:
                failure = error.problems[0].what
            except OSError as error:
                failure = f"cannot be written ({error.strerror or error})"
            else:
                return _moved(self._folder, path, reason, gone)
            failure = f"; {path} {failure}"
        return LostFileError(
            f"was pulled away ({reason}), and its history can be written nowhere else{failure}",
            where=str(self._folder.path),
            fix="Make room or mend the folder above it, then start anew.",
        )

    def _written_to(self, path: Path, documents: str, outcome: Outcome | None) -> str:
        """Makes a whole run folder or none; says what is no longer there to be in it."""
        path.mkdir(parents=True)
        try:
            rescued = RunFolder(path)
            gone = self._belongings.copy(path)
            if outcome is not None:
                write_documents(path / "documents" / documents, outcome)
            write_atomic(rescued.genome, self.genome)
            write_atomic(rescued.ledger, b"".join(self._lines))
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return gone

    def _places(self) -> Iterator[Path]:
        """Where a new run folder may be made, the best first."""
        run = self._folder.path.absolute()
        for above in (run.parent, Path(tempfile.gettempdir())):
            for number in range(1, _NAMES_TRIED):
                path = above / f"{run.name}-rescued{f'-{number}' if number > 1 else ''}"
                if not is_there(path):
                    yield path
                    break


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def _times(found: os.stat_result) -> tuple[int, int]:
    return found.st_mtime_ns, found.st_ctime_ns


def _moved(run: RunFolder, rescued: Path, reason: str, gone: str) -> LostFileError:
    left = f"{gone} are gone, every result is" if gone else "nothing is lost, all that was found is"
    return LostFileError(
        f"pulled away while the run was writing: {reason}; {left} in {rescued}",
        where=str(run.path),
        fix=f"Add --run-dir {rescued} to continue there, or put that folder in its place and "
        "give the same command again.",
    )


def cut_torn_tail(path: Path) -> list[str]:
    """Cuts off a last line that was not finished, and says so."""
    complete, newline, tail = read_bytes(path, MAX_BYTES, follow=False).rpartition(b"\n")
    if not tail:
        return []
    write_atomic(path, complete + newline)
    return ["the last line of the ledger was cut short and is removed; its work is done again"]


def events_of(path: Path, salvage: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and events of a ledger; a last line that was not finished is left out."""
    complete, newline, _ = read_bytes(path, MAX_BYTES, follow=False).rpartition(b"\n")
    lines = complete.split(b"\n") if newline else []
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            if not isinstance(event, dict):
                raise ValueError("not a mapping")
        except (ValueError, RecursionError) as error:
            if salvage:
                continue
            raise LedgerError(
                f"line {number} of {len(lines)} is not an event, and it is not the last",
                where=str(path),
                fix=BROKEN_FIX,
            ) from error
        yield number, event

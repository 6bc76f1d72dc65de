"""The file of a ledger, held open, so that a run does not write on where its history is gone.

A path may be deleted, replaced, cut or moved away while a run writes. Opened by its name for
every line, it would quietly become a new file without the lines before. All lines are known here:
what was pulled away is written again, as a run folder that can be continued.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from evomerge.errors import LostFileError
from evomerge.files import write_atomic, writing
from evomerge.ledger.documents import write_documents
from evomerge.ledger.folder import RunFolder
from evomerge.reading import is_file, is_folder, is_there, read_bytes
from evomerge.trial import Outcome

Identity = tuple[int, int]  # device and number of a file on it
MAX_BYTES = 1 << 30  # of a ledger; a trial takes a few thousand
_NAMES_TRIED = 100


class LedgerFile:
    """A whole ledger, to be appended to by this process alone.

    Args:
        folder: Of the run; its files are there.

    Raises:
        LostFileError: one cannot be opened.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        with writing(folder.ledger):
            documents = folder.path / "documents"
            documents.mkdir(exist_ok=True)
            self._genome = read_bytes(folder.genome) if is_file(folder.genome) else b""
            self._lines = read_bytes(folder.ledger, MAX_BYTES).splitlines(keepends=True)
            self._length = sum(map(len, self._lines))
            self._handle = os.open(folder.ledger, os.O_WRONLY | os.O_APPEND)
            handles = [self._handle]
            if os.name == "posix":  # the number of a file that is held open is given to no other
                handles.append(os.open(documents, os.O_RDONLY))
            self._freed = weakref.finalize(self, _close, handles)
            self._expected = {
                folder.ledger: _identity(os.fstat(self._handle)),
                documents: _identity(documents.stat()),
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
        self._lines.append(f"{line}\n".encode())
        reason = self._lost()
        folder = self._rescued() if reason else self._folder
        if outcome is not None:
            write_documents(folder.path / "documents" / documents, outcome)
        if reason:
            raise _moved(self._folder, folder, reason)
        self.append(self._lines[-1])

    def append(self, line: bytes) -> None:
        """Writes a whole line to the open file."""
        with writing(self._folder.ledger):
            left = line
            while left:
                left = left[os.write(self._handle, left) :]
            os.fsync(self._handle)
        self._length += len(line)

    def close(self) -> None:
        """Frees the file."""
        self._freed()

    def _lost(self) -> str:
        """What is no longer as it was left, with what became of it; empty where all is."""
        for path, identity in self._expected.items():
            try:
                found = path.stat()
            except OSError as error:
                return f"{path.name} is gone ({error.strerror})"
            if _identity(found) != identity:
                return f"{path.name} was replaced by another"
        n_bytes = os.fstat(self._handle).st_size
        if n_bytes != self._length:
            return f"{self._folder.ledger.name} has {n_bytes} bytes instead of {self._length}"
        return ""

    def _rescued(self) -> RunFolder:
        """A new run folder with the whole history, and what else of the old one is still there."""
        for path in self._places():
            with suppress(OSError, LostFileError):
                path.mkdir(parents=True)
                rescued = RunFolder(path)
                for name in ("documents", "optimizer"):
                    if is_folder(self._folder.path / name):
                        _copy(self._folder.path / name, path / name)
                write_atomic(rescued.genome, self._genome)
                write_atomic(rescued.ledger, b"".join(self._lines))
                return rescued
        raise LostFileError(
            "was pulled away, and its history can be written nowhere else",
            where=str(self._folder.path),
            fix="Make room or mend the folder above it, then start anew.",
        )

    def _places(self) -> Iterator[Path]:
        """Where a new run folder may be made, the best first."""
        run = self._folder.path.absolute()
        for above in (run.parent, Path(tempfile.gettempdir())):
            for number in range(1, _NAMES_TRIED):
                path = above / f"{run.name}-rescued{f'-{number}' if number > 1 else ''}"
                if not is_there(path):
                    yield path
                    break


def _close(handles: list[int]) -> None:
    for handle in handles:
        os.close(handle)


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def _copy(source: Path, target: Path) -> None:
    """A folder of files that are never changed in place: they may be the same ones."""

    def link(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except OSError:  # another file system, or one without links
            shutil.copy2(old, new)

    shutil.copytree(source, target, symlinks=True, copy_function=link, dirs_exist_ok=True)


def _moved(run: RunFolder, rescued: RunFolder, reason: str) -> LostFileError:
    return LostFileError(
        f"pulled away while the run was writing: {reason}; nothing is lost, all that was found is "
        f"in {rescued.path}",
        where=str(run.path),
        fix=f"Add --run-dir {rescued.path} to continue there, or put that folder in its place and "
        "give the same command again.",
    )

"""What a run folder holds beside its ledger, held open: it is found wherever it is moved to.

Files in these folders are written once, and never changed in place; those of judgments grow.
"""

from __future__ import annotations

import os
import shutil
import stat
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from evomerge.evaluators import KEEPS

_AS_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_N_NAMED = 10
_MAY_COME = {
    "optimizer": "the optimizer",
    **{folder: f"tasks of {kind!r}" for kind, folder in KEEPS.items()},
}


class Belongings:
    """The folders of a run.

    Args:
        run: The run folder; ``documents`` is there, the others may come.
    """

    def __init__(self, run: Path) -> None:
        self._run = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
        self._held: dict[str, int] = {}
        self._freed = weakref.finalize(self, _close, self._run, self._held)
        self._held["documents"] = os.open("documents", _AS_FOLDER, dir_fd=self._run)
        self.hold()
        self._documents = set(os.listdir(self._held["documents"]))

    @property
    def documents(self) -> os.stat_result:
        """The folder of the documents, as it was."""
        return os.fstat(self._held["documents"])

    def hold(self) -> None:
        """Holds what has come since; what cannot be opened could not be copied either."""
        for name in _MAY_COME:
            if name not in self._held:
                with suppress(OSError):
                    self._held[name] = os.open(name, _AS_FOLDER, dir_fd=self._run)

    def note(self, documents: str) -> None:
        """Remembers that a file of documents was written."""
        self._documents.add(documents)

    def copy(self, run: Path) -> str:
        """Copies what is left to another run folder; says what is not, nothing where all is."""
        for name, handle in self._held.items():
            _copy(handle, run / name)
        gone = self._documents - set(os.listdir(run / "documents"))
        lost = [f"the documents of {_some(gone)}"] if gone else []
        for name, kept_by in _MAY_COME.items():
            if name in self._held and not os.listdir(run / name):
                lost.append(f"what {kept_by} kept")
        return " and ".join(lost)

    def close(self) -> None:
        """Frees the folders."""
        self._freed()


def _close(run: int, held: dict[str, int]) -> None:
    for handle in (run, *held.values()):
        os.close(handle)


def _some(files: Iterable[str]) -> str:
    names = sorted(file.partition(".")[0] for file in files)
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    return ", ".join(names[:_N_NAMED]) + more


def _copy(source: int, target: Path) -> None:
    """All files below an open folder; neither they nor their copies are changed in place."""
    for place, _, names, folder in os.fwalk(dir_fd=source):
        (target / place).mkdir()
        for name in names:
            if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                _link(name, folder, target / place / name)


def _link(name: str, folder: int, target: Path) -> None:
    try:
        os.link(name, target, src_dir_fd=folder, follow_symlinks=False)
    except OSError:  # another file system, or one without links
        old = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(old, "rb") as source, os.fdopen(new, "wb") as copy:
            shutil.copyfileobj(source, copy)

"""Temporary folders that are gone afterwards, however the work in them ended.

All of a process and its workers lie in one folder, the root. It goes with the process; what ends
a process before it can remove anything is its guardian's to tidy up; and what is left even so,
because the guardian was ended too, the next start removes: the root of a living process is locked.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from evomerge.foundations.errors import LostFileError, has_no_room, told
from evomerge.foundations.lifetime import guardian
from evomerge.foundations.reading import is_file

SCRATCH = "evomerge-"  # how roots begin, and folders that are made elsewhere
_OWNER = ".owner"  # locked while the process lives


@dataclass(frozen=True)
class _Root:
    """The folder of one process, or of the controller of a worker."""

    path: Path
    pid: int
    lock: FileLock | None = None
    is_shared: bool = False

    @property
    def is_here(self) -> bool:
        """Whether it is this process's, where the system has temporary files now."""
        return self.pid == os.getpid() and self.path.parent == Path(tempfile.gettempdir())


_roots: list[_Root] = []


def scratch_root() -> Path:
    """The folder that holds the temporary files of this process; made when it is first needed."""
    if not _roots or not _roots[-1].is_here:
        sweep()
        _roots.append(_made())
    _roots[-1].path.mkdir(mode=0o700, exist_ok=True)  # somebody may have tidied up
    return _roots[-1].path


def share_root(root: Path) -> None:
    """Makes the root of another process, which removes it, this one's too."""
    _roots.append(_Root(root, os.getpid(), is_shared=True))


def lend_root() -> Path:
    """The root of this process, which others are going to share."""
    path = scratch_root()
    _roots[-1] = replace(_roots[-1], is_shared=True)
    return path


def shared_root() -> Path | None:
    """The root that processes share, this one among them; None: it has its own alone."""
    return _roots[-1].path if _roots and _roots[-1].is_here and _roots[-1].is_shared else None


def full_scratch(error: BaseException) -> LostFileError | None:
    """What to say of an error where the disk of the temporary files takes no more, else None."""
    if not has_no_room(error):
        return None
    return LostFileError(
        f"there is no room in {tempfile.gettempdir()} ({told(error)})",
        where="temporary folder",
        fix="Make room there, or name another folder by TMPDIR; the same command then continues.",
    )


@contextmanager
def scratch(above: Path | None = None) -> Iterator[Path]:
    """A folder for as long as the block takes, however that ends.

    A Ctrl-C while :class:`tempfile.TemporaryDirectory` makes its folder leaves the folder.

    Args:
        above: Where it is made; None: where the system has temporary files.
    """
    folder = (above or scratch_root()) / f"{SCRATCH}{uuid4().hex}"
    if above is not None and not _goes_with_root(above):
        guardian().remove_later(folder.absolute())
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _goes_with_root(folder: Path) -> bool:
    return bool(_roots) and _roots[-1].is_here and folder.is_relative_to(_roots[-1].path)


def _made() -> _Root:
    """A new root, locked before it has the name that :func:`sweep` looks for."""
    path = Path(tempfile.gettempdir()) / f"{SCRATCH}{uuid4().hex}"
    hidden = path.with_name(f".{path.name}")
    for folder in (hidden, path):
        guardian().remove_later(folder)
    try:
        hidden.mkdir(mode=0o700)
        lock = FileLock(hidden / _OWNER)
        with suppress(NotImplementedError):  # a file system without locks: nobody sweeps it
            lock.acquire(timeout=0)
        hidden.rename(path)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    root = _Root(path, os.getpid(), lock)
    atexit.register(_remove, root)
    return root


def _remove(root: _Root) -> None:
    if root.pid == os.getpid():  # not in a fork
        shutil.rmtree(root.path, ignore_errors=True)


def sweep() -> None:
    """Removes the roots of this user whose processes are gone."""
    for root in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with suppress(OSError, NotImplementedError, Timeout):  # another's, or in use
            if _is_own_folder(root) and is_file(root / _OWNER):
                with FileLock(root / _OWNER, timeout=0):
                    shutil.rmtree(root, ignore_errors=True)


def _is_own_folder(path: Path) -> bool:
    """Whether it is a folder of this user's, and no link to one."""
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and (os.name != "posix" or found.st_uid == os.geteuid())

"""Writing that survives a crash.

Atomic writes use a temporary file in the same folder, fsync and rename. Not safe
where rename is not atomic (some network file systems).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from evomerge.foundations.errors import LostFileError
from evomerge.foundations.reading import is_there

_UNFINISHED = ".unfinished"


@contextmanager
def writing(path: Path, node: str = "") -> Iterator[None]:
    """Says in one sentence what the system says in an errno.

    Args:
        path: What is being written inside.
        node: Whose disk it is on, where others have one, too.

    Raises:
        LostFileError: the disk is full, or the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise LostFileError(
            f"cannot be written ({error.strerror or error})",
            where=f"{path} on node {node}" if node else str(path),
            fix="Make room or mend the folder, then give the same command again.",
        ) from error


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replaces a file so that a reader sees the old or the new content, never a mix.

    Folders above it are made.

    Raises:
        LostFileError: the disk is full, or the folder cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)


def write_missing(folder: Path, files: Mapping[str, str]) -> None:
    """Writes those of some small files that a folder has not yet.

    Raises:
        LostFileError: the disk is full, or the folder cannot be written.
    """
    for name, content in files.items():
        if not is_there(folder / name):
            write_atomic(folder / name, content)


def _replace(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Removes what a killed :func:`write_atomic` left where this process alone writes."""
    for path in folder.glob(f".*{_UNFINISHED}"):
        path.unlink(missing_ok=True)

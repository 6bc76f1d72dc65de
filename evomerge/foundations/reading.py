"""The doors by which files are opened for reading: regular files only, up to a stated size.

Names and files may be a stranger's. Opening a FIFO waits for ever, a device may act or never end,
and some names are errors of the system; here each of these is one sentence. Questions about a
name that no file can have are answered with no.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from evomerge.foundations.errors import UnreadableError

SMALL = 1 << 28  # bytes of a file that is read whole; the largest tokenizers have 2**25
_MORE = 1 << 16  # bytes
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


def opened(path: Path, *, follow: bool = True) -> BinaryIO:
    """A regular file, open for reading; whoever asks closes it.

    Args:
        path: The file.
        follow: Whether its name may be a link, as names in the Hub's cache are. Those above it
            always may.

    Raises:
        UnreadableError: there is none, or it is no regular file, or it may not be read.
    """
    with reading(path):
        # Looked at before it is opened, which lets some devices act; and after, for it may
        # have become something else in between.
        _refuse_special(path, os.stat(path, follow_symlinks=follow).st_mode)
        handle = os.open(path, _FLAGS | (0 if follow else _NO_LINK))
        try:
            _refuse_special(path, os.fstat(handle).st_mode)
            return os.fdopen(handle, "rb")
        except BaseException:
            os.close(handle)
            raise


def read_bytes(path: Path, most: int = SMALL, *, follow: bool = True) -> bytes:
    """What a regular file holds.

    Args:
        path: The file.
        most: Bytes it may have.
        follow: Whether its name may be a link.

    Raises:
        UnreadableError: there is none, it is no regular file, may not be read, or is larger.
    """
    with opened(path, follow=follow) as file, reading(path):
        size = os.fstat(file.fileno()).st_size
        pieces = [b"" if size > most else file.read(size + 1)]
        n_bytes = len(pieces[0])
        # A file may grow, and those of /proc have no size.
        while 0 < n_bytes <= most and (more := file.read(_MORE)):
            pieces.append(more)
            n_bytes += len(more)
    if max(size, n_bytes) > most:
        raise UnreadableError(
            f"{max(size, n_bytes)} bytes, more than the {most} it may have",
            where=str(path),
            fix="Shorten it, or name another file.",
        )
    return b"".join(pieces)


def read_text(path: Path, most: int = SMALL, *, follow: bool = True) -> str:
    """What a regular file in UTF-8 holds; see :func:`read_bytes`.

    Raises:
        UnreadableError: it cannot be read, or is not UTF-8.
    """
    content = read_bytes(path, most, follow=follow)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UnreadableError(
            f"cannot be read (byte {content[error.start]:#04x} is not UTF-8)",
            where=f"{path}:{line}",
            fix="Save the file as UTF-8.",
        ) from error


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, in the order of the names.

    Raises:
        UnreadableError: there is no such folder, or it may not be read.
    """
    with reading(folder):
        return sorted(folder / name for name in os.listdir(folder))


def is_file(path: Path | str) -> bool:
    """Whether there is a regular file, or a link to one."""
    return os.path.isfile(path)  # Path's own raises for a name that is too long


def is_folder(path: Path | str) -> bool:
    """Whether there is a folder, or a link to one."""
    return os.path.isdir(path)


def is_there(path: Path | str) -> bool:
    """Whether anything has this name, a link to nothing too."""
    return os.path.lexists(path)


def real_path(path: Path) -> Path:
    """The full path with every link followed, as far as that can be.

    Raises:
        UnreadableError: no file can have the name.
    """
    with reading(path):
        return Path(os.path.realpath(path))  # Path.resolve raises for links in a ring


def kind_of(path: Path) -> str:
    """What has this name, where it leads if it is a link: ``a folder``; empty for a file.

    Nothing, and what a name cannot tell, are empty too.
    """
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "")
    except (OSError, ValueError):
        return ""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Says in one sentence what the system says in an errno.

    Args:
        path: What is being read inside.

    Raises:
        UnreadableError: it cannot be.
    """
    try:
        yield
    except UnreadableError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UnreadableError(_reason(error), where=str(path)) from error


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError):
        links = " or too many symbolic links" if error.errno == errno.ELOOP else ""
        return f"cannot be read ({error.strerror or error}{links})"
    return f"cannot be read ({error})"


def _refuse_special(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise UnreadableError(
            f"is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, expected a regular file",
            where=str(path),
            fix="Put the file in its place.",
        )

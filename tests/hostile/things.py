"""What can stand where a file belongs, and what a command does with it: end well, or a sentence."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import shutil
import signal
import socket
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from evomerge.cli.main import entry_point

SECRET = "canary-of-a-file-elsewhere"
PATIENCE = 120.0  # seconds until a command counts as one that hangs, on a loaded machine
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


def command(*arguments: object) -> Done:
    """Runs the command line in this process; a hang is an error, and so is a traceback."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), watched(PATIENCE):
        try:
            entry_point([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 0
    return Done(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def watched(seconds: float) -> Iterator[None]:
    """Ends what takes longer, a wait inside the system too."""

    def hangs(signum: int, frame: object) -> None:
        raise AssertionError(f"it hangs: {seconds} s are over")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def assert_told(done: Done) -> None:
    """It ended well, or with a sentence; nothing of another file stands in what it said."""
    assert done.code in (0, 1, 2), done
    assert done.code == 0 or done.err.strip(), done
    assert "Traceback" not in done.err, done.err
    assert SECRET not in done.out + done.err


def _without(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()


def _content(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        before = path.read_bytes() if path.is_file() else b'{"a": 1}\n'
        _without(path)
        path.write_bytes(change(before))

    return make


def _thing(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        _without(path)
        make(path)

    return replace


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _secret(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere.txt"
    elsewhere.write_text(f"{SECRET}\n")
    path.symlink_to(elsewhere.resolve())


def _device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:  # only root makes them
        path.symlink_to("/dev/zero")


def _zip(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", content)
    return packed.getvalue()


THINGS: dict[str, Callable[[Path], None]] = {
    "nothing": _without,
    "empty": _content(lambda content: b""),
    "cut in half": _content(lambda content: content[: len(content) // 2]),
    "one byte short": _content(lambda content: content[:-1]),
    "one byte left": _content(lambda content: content[:1]),
    "one byte more": _content(lambda content: content + b"\xff"),
    "bytes of all kinds": _content(lambda content: bytes(range(256)) * 8),
    "NUL bytes": _content(lambda content: bytes(4096)),
    "another archive": _content(_zip),
    "another packed": _content(gzip.compress),
    "other JSON": _content(lambda content: b"[[], null, NaN, -Infinity, 1e999, {}]\n"),
    "deep JSON": _content(lambda content: b"[" * 200_000),
    "a long number": _content(lambda content: b"9" * 50_000),
    "a text": _content(lambda content: b"no \xc3\xbc such thing\n"),
    "BOM": _content(lambda content: b"\xef\xbb\xbf" + content),
    "UTF-16": _content(lambda content: content.decode("latin-1").encode("utf-16")),
    "CRLF": _content(lambda content: content.replace(b"\n", b"\r\n")),
    "a terabyte": _thing(_sparse),
    "a folder": _thing(Path.mkdir),
    "a FIFO": _thing(os.mkfifo),
    "a socket": _thing(_socket),
    "a device": _thing(_device),
    "a link to a device": _thing(lambda path: path.symlink_to("/dev/zero")),
    "a link to a full device": _thing(lambda path: path.symlink_to("/dev/full")),
    "a link to nothing": _thing(lambda path: path.symlink_to("gone")),
    "a loop of links": _thing(lambda path: path.symlink_to(path.name)),
    "a link elsewhere": _thing(_secret),
}
SPECIAL = ("a FIFO", "a socket", "a device", "a link to a device", "a link to a full device")


def in_turn(places: Sequence[str], every: int) -> list[tuple[str, str]]:
    """Places and things in them: one thing of ``every`` at each place, and each thing at many."""
    return [
        (place, kind)
        for shift, place in enumerate(places)
        for index, kind in enumerate(THINGS)
        if (index + shift) % every == 0
    ]

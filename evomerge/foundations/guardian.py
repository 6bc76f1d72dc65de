"""The process that tidies up after another one, however that one ended.

:mod:`evomerge.foundations.lifetime` starts it. It reads its standard input until that closes, which
the system sees to when the owner is gone. Then it ends every process that carries the token in its
environment, and removes the folders that it was told of. It has a session of its own, so that
what ends the owner's group or terminal does not end it too.

Input: a path in JSON a line; between lines the bytes of signals, which Python's own handler of
signals writes as they come (``signal.set_wakeup_fd``). After one that asks the owner to leave,
it has :data:`SECONDS_TO_LEAVE` before it is killed: it may be deep in a call that never returns.
"""

from __future__ import annotations

import json
import math
import os
import select
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

MARK = "EVOMERGE_OWNED_BY"  # the variable with the tokens of all that a process ends with
SECONDS_TO_LEAVE = 30.0
LEAVING = bytes(filter(None, (getattr(signal, name, 0) for name in ("SIGHUP", "SIGTERM"))))
_LOOKS_EVERY = 0.5  # seconds: a child of the owner by fork may hold the pipe open
_ROUNDS, _PAUSE = 100, 0.05  # seconds: until the system has ended them, and what they started


def main(owner: int, token: str) -> None:
    """Waits for the end of the owner, then tidies up.

    Args:
        owner: Its process id; this process is its child.
        token: What the processes that go with it carry in their environment.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    folders: list[str] = []
    try:
        folders.extend(told(owner))
    finally:
        try:
            end_marked(token)
        finally:
            remove(folders)


def told(owner: int) -> Iterator[str]:
    """The folders named on standard input, until the owner closes it or is gone."""
    rest, leaves_by = b"", math.inf
    while chunk := heard(owner, leaves_by):
        if set(chunk) & set(LEAVING):
            leaves_by = min(leaves_by, time.monotonic() + SECONDS_TO_LEAVE)
        *lines, rest = (rest + chunk).split(b"\n")
        yield from map(_path, filter(bytes.strip, lines))


def heard(owner: int, leaves_by: float) -> bytes:
    """What comes next on standard input; empty at its end, or where the owner is gone."""
    while True:
        is_there = os.getppid() == owner  # before the look: what it wrote last is read even so
        if select.select([0], [], [], _LOOKS_EVERY if is_there else 0.0)[0]:
            return os.read(0, 1 << 16)
        if not is_there:
            return b""
        # Another process may have its number once it is gone.
        if time.monotonic() > leaves_by and os.getppid() == owner:
            with suppress(ProcessLookupError):
                os.kill(owner, signal.SIGKILL)


def _path(line: bytes) -> str:
    path: str = json.loads(line.translate(None, delete=bytes(range(32))))
    return path


def end_marked(token: str) -> None:
    """Kills every process that carries the token, those they start meanwhile too."""
    import psutil  # only now: the guardian of a long run is small

    for _ in range(_ROUNDS):
        found = [p for p in psutil.process_iter() if p.pid != os.getpid() and _has(p, token)]
        if not found:
            return
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(_PAUSE)


def _has(process: object, token: str) -> bool:
    """Whether a process carries the token; those of other people cannot be asked."""
    import psutil

    try:
        return token in process.environ().get(MARK, "").split()  # type: ignore[attr-defined]  # psutil has no types
    except (psutil.Error, OSError):
        return False


def remove(folders: Iterable[str]) -> None:
    """Removes folders with all that is in them; those that are gone are none."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)

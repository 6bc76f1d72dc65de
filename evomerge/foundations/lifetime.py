"""What must not outlive this process: the processes it starts, and its temporary folders.

Nothing that runs inside a process can act after ``kill -9``. So another one, the guardian, waits
for the end of this one. On Linux workers also ask the system to end with it, in case somebody
ends the guardian first.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

from evomerge.foundations.guardian import MARK

_SECONDS_TO_TIDY = 5.0
# With -m, Python would look for modules in the folder of whoever gave the command first.
_START = """
import sys
sys.path[:] = filter(None, sys.path)
from evomerge.foundations.guardian import main
main(int(sys.argv[1]), sys.argv[2])
"""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Guardian:
    """The owner's side of :mod:`evomerge.foundations.guardian`."""

    def __init__(self) -> None:
        self.token = uuid4().hex
        self.pid = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_told_of_signals = False

    def start(self) -> None:
        """Starts it, unless it runs; forgets about itself when this process ends in order."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(self.pid), self.token],
            # A worker carries the token of its controller, whose guardian must not end this one.
            env={name: value for name, value in os.environ.items() if name != MARK},
            stdin=subprocess.PIPE,
            # It must keep nobody waiting who reads what this process says.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self.stop)
        if self._is_told_of_signals:
            self.hear_signals()

    def hear_signals(self) -> None:
        """From now on a SIGTERM or SIGHUP that this process does not follow is followed."""
        self._is_told_of_signals = True
        is_main = threading.current_thread() is threading.main_thread()
        if self._process is None or self._process.stdin is None or not is_main:
            return
        handle = self._process.stdin.fileno()
        os.set_blocking(handle, False)
        signal.set_wakeup_fd(handle, warn_on_full_buffer=False)

    def ignore_signals(self) -> None:
        """Undoes :meth:`hear_signals`; what was heard stays heard."""
        self._is_told_of_signals = False
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)

    def remove_later(self, folder: Path) -> None:
        """Has a folder removed at the end of this process, if it is there then."""
        self.start()
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the guardian has no standard input")
        try:
            os.write(self._process.stdin.fileno(), f"{json.dumps(str(folder))}\n".encode())
        except OSError as error:  # somebody ended it: the next start of evomerge tidies up
            logging.getLogger(__name__).warning("nobody guards %s (%s)", folder, error)

    def stop(self) -> None:
        """Lets it tidy up, and waits until it has."""
        if self._process is None or self.pid != os.getpid() or self._process.stdin is None:
            return
        self.ignore_signals()
        with suppress(OSError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_TIDY)


_guardians: list[Guardian] = []  # one per process: a fork has its parent's as well


def guardian() -> Guardian:
    """This process's own, not yet started."""
    if not _guardians or _guardians[-1].pid != os.getpid():
        _guardians.append(Guardian())
    return _guardians[-1]


@contextmanager
def own_process() -> Iterator[None]:
    """The process is evomerge's alone: whatever is started inside ends with it.

    It leaves within ``guardian.SECONDS_TO_LEAVE`` when a signal asks it to, once it has a guardian:
    that is, once it has made a temporary folder or started a process.
    """
    _own_forks()
    guardian().hear_signals()
    try:
        with _marked():
            yield
    finally:
        guardian().ignore_signals()
        _forking.clear()


@contextmanager
def own_children(group: str = "") -> Iterator[None]:
    """Whatever is started inside, by whomever, ends with this process.

    Args:
        group: A token that they carry beside this process's own, with all that they start, for
            :func:`evomerge.foundations.guardian.end_marked`; empty: none.
    """
    guardian().start()
    with _marked(group):
        yield


@contextmanager
def _marked(group: str = "") -> Iterator[None]:
    """Children carry the token, and import nothing from the folder that the command is run in."""
    tokens = f"{guardian().token} {group}".strip()
    wanted = {MARK: tokens, "PYTHONSAFEPATH": "1"}  # the latter from Python 3.11 on
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _own_forks() -> None:
    """Forks of this process, which keep its environment of old, end with it too (Linux).

    Not those of another thread than the main one: the system would end them with their thread.
    """
    if sys.platform == "linux":
        _libc()  # a fork of many threads must not load it
        _forking[:] = [os.getpid()]
        _watch_forks()


# :func:`parent_to_be` of the latest fork, while forks are to end with this process.
_forking: list[int] = []


@cache
def _watch_forks() -> None:
    os.register_at_fork(before=_note_parent, after_in_child=_end_with_it)


def _note_parent() -> None:
    if _forking:
        _forking[0] = parent_to_be()


def _end_with_it() -> None:
    if _forking:
        end_with_parent(_forking[0])


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def parent_to_be() -> int:
    """What a process that is started now may end with; 0 in a thread, which may end before."""
    return os.getpid() if threading.current_thread() is threading.main_thread() else 0


def end_with_parent(parent: int) -> None:
    """Has the system end this process with the thread that started it, where it can (Linux).

    Args:
        parent: Process id; this process ends now if that one is gone already. 0: nothing is done.
    """
    if not parent:
        return
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.name == "posix" and os.getppid() != parent:
        os._exit(1)

"""Ends Python code that does not look at its deadline: a task's endless loop, a silent socket.

Signals are handled between two steps of Python in the main thread. A call of C that does not
return, a forward pass say, is waited for; so is everything where the system has no such signals,
or outside the main thread. Code that swallows whatever is raised is ended with its process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn, TypeVar

from evomerge.foundations.deadline import Deadline

GRACE = 0.75  # seconds in which work may end by itself once its deadline is over
MOST_RINGS = 5  # that code may swallow, one each GRACE
# Nobody's own: metrics of tasks take SIGALRM to end themselves.
_SIGNAL = getattr(signal, "SIGVTALRM", None)

T = TypeVar("T")


class OverdueError(BaseException):
    """Raised wherever the code is; what it worked on may be in any state. Nothing catches it."""


def ended_in_time(deadline: Deadline, work: Callable[[], T], name: str = "the work") -> T:
    """What the work gives; ends the process where the work cannot be ended.

    Args:
        deadline: Of the work.
        work: Called in this thread.
        name: What it is, for who reads why the process ended.

    Raises:
        OverdueError: it did not end with its deadline.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if deadline.left > threading.TIMEOUT_MAX or _SIGNAL is None or not is_main:
        return work()
    bell = _Bell(deadline, name)
    before = signal.signal(_SIGNAL, bell.ring)
    try:
        try:
            bell.start()
            found = work()
        finally:
            bell.is_on = False
    except Exception:  # code that was interrupted may raise an error of its own instead
        if bell.has_rung:
            raise OverdueError from None
        raise
    finally:  # again: it may have rung right there
        bell.is_on = False
        bell.stop()
        signal.signal(_SIGNAL, before)
    if bell.has_rung:  # the code inside has swallowed it, and went on with who knows what
        raise OverdueError
    return found


class _Bell:
    """Rings in the main thread when a deadline is over, again and again."""

    def __init__(self, deadline: Deadline, name: str) -> None:
        self.is_on = True
        self._n_rings = 0
        self._deadline = deadline
        self._name = name
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def has_rung(self) -> bool:
        return self._n_rings > 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def ring(self, signum: int, frame: FrameType | None) -> None:
        if self.is_on:
            self._n_rings += 1
            if self._n_rings > MOST_RINGS:
                _leave(self._name)
            raise OverdueError

    def _watch(self) -> None:
        main = threading.main_thread().ident
        seconds = max(self._deadline.left + GRACE, 0.0)
        while not self._is_over.wait(seconds):
            if _SIGNAL is not None and main is not None:
                signal.pthread_kill(main, _SIGNAL)
            seconds = GRACE


def _leave(name: str) -> NoReturn:
    """Ends the process at once; what was recorded is on disk, the guardian tidies up."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # it may be what the code was writing to right now
            stream.flush()
    sentence = (
        f"{name}: goes on after its time, and swallows whatever would end it; what was recorded "
        "is kept. A worker process (execution.workers=2) would be ended alone.\n"
    )
    with suppress(OSError):
        os.write(2, sentence.encode())
    os._exit(1)

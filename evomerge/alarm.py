"""Ends Python code that does not look at its deadline: a task's endless loop, a silent socket.

Signals are handled between two steps of Python in the main thread. A call of C that does not
return, a forward pass say, is waited for; so is everything where the system has no such signals,
or outside the main thread.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from evomerge.deadline import Deadline

GRACE = 0.75  # seconds in which work may end by itself once its deadline is over
# Nobody's own: metrics of tasks take SIGALRM to end themselves.
_SIGNAL = getattr(signal, "SIGVTALRM", None)

T = TypeVar("T")


class OverdueError(BaseException):
    """Raised wherever the code is; what it worked on may be in any state. Nothing catches it."""


def ended_in_time(deadline: Deadline, work: Callable[[], T]) -> T:
    """What the work gives.

    Raises:
        OverdueError: it did not end with its deadline.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if deadline.left > threading.TIMEOUT_MAX or _SIGNAL is None or not is_main:
        return work()
    bell = _Bell(deadline)
    before = signal.signal(_SIGNAL, bell.ring)
    try:
        try:
            bell.start()
            found = work()
        finally:
            bell.is_on = False
    except Exception:
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

    def __init__(self, deadline: Deadline) -> None:
        self.is_on = True
        self.has_rung = False
        self._deadline = deadline
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def ring(self, signum: int, frame: FrameType | None) -> None:
        if self.is_on:
            self.has_rung = True
            raise OverdueError

    def _watch(self) -> None:
        main = threading.main_thread().ident
        seconds = max(self._deadline.left + GRACE, 0.0)
        while not self._is_over.wait(seconds):
            if _SIGNAL is not None and main is not None:
                signal.pthread_kill(main, _SIGNAL)
            seconds = GRACE

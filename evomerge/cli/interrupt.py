"""Signals that end a command: Ctrl-C, SIGTERM, a terminal that was closed.

During a run, Ctrl-C once finishes the running trial, twice leaves now. SIGTERM and SIGHUP leave
now, from anywhere: they unwind the command as a second Ctrl-C does, so that locks, folders and
workers go. What does not come to its end that way, the guardian kills, or a second such signal.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from evomerge.foundations.lifetime import own_process

_STREAMS = (0, 1, 2)  # standard input, output, error
SECONDS_TO_UNWIND = 5.0  # in which a second signal disturbs nothing


class StoppedError(Exception):
    """The user stopped the command; the text says what to do next.

    Args:
        what: One sentence.
        interrupt: What stopped it; None for a first Ctrl-C, which let it finish its trial.
    """

    def __init__(self, what: str, interrupt: KeyboardInterrupt | None = None) -> None:
        super().__init__(what)
        self.exit_code = exit_code_of(interrupt)


class Terminated(KeyboardInterrupt):  # named as the exception it refines
    """A signal that asks the process to leave.

    Args:
        signum: Which.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


def exit_code_of(interrupt: BaseException | None) -> int:
    """128 and the number of the signal, as shells have it."""
    signum = interrupt.signum if isinstance(interrupt, Terminated) else signal.SIGINT
    return 128 + signum


@contextmanager
def stopped_by_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Calls ``stop`` at the first Ctrl-C inside; a second raises KeyboardInterrupt."""

    def first(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def terminated_by_signals() -> Iterator[None]:
    """Raises Terminated at the first SIGTERM or SIGHUP inside; a late second one ends the process.

    One that is ignored already stays so: ``nohup`` asks for that.
    """
    terminals = [stream for stream in _STREAMS if os.isatty(stream)]
    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    heard = [n for n in numbers if n is not None and signal.getsignal(n) is not signal.SIG_IGN]

    def leave(signum: int, frame: FrameType | None) -> None:
        unwound_by = time.monotonic() + SECONDS_TO_UNWIND

        def leave_at_once(signum: int, frame: FrameType | None) -> None:
            if time.monotonic() > unwound_by:  # something has swallowed the first
                signal.signal(signum, signal.SIG_DFL)
                signal.raise_signal(signum)

        for number in heard:
            signal.signal(number, leave_at_once)
        silence(terminals)
        raise Terminated(signum)

    before = {number: signal.signal(number, leave) for number in heard}
    try:
        with own_process():
            yield
    except OSError as error:
        if error.errno != errno.EIO or not silence(terminals):
            raise
        raise Terminated(getattr(signal, "SIGHUP", signal.SIGTERM)) from error
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is leave:  # else it is leaving, and goes on doing so
                signal.signal(number, handler)


def silence(terminals: list[int]) -> bool:
    """Lets what is written to terminals that are gone vanish; whether any is."""
    gone = [stream for stream in terminals if not os.isatty(stream)]
    if gone:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in gone:
            os.dup2(nowhere, stream)
            terminals.remove(stream)
        os.close(nowhere)
    return bool(gone)

"""The moment by which a trial has to be done."""

from __future__ import annotations

import time
from collections.abc import Callable

from evomerge.errors import TrialTimeoutError


class Deadline:
    """Looked at between two steps of long work; nothing is interrupted in the middle.

    Args:
        seconds: From now; None for no limit.
        clock: Seconds from any start, rising.
    """

    def __init__(
        self, seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._started = clock()

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self._seconds is not None

    def check(self) -> None:
        """Does nothing in time.

        Raises:
            TrialTimeoutError: the time is over.
        """
        if self._seconds is not None and self._clock() - self._started > self._seconds:
            raise TrialTimeoutError(f"took longer than {self._seconds:g} seconds")

"""What one exchange with a server may take: seconds and bytes, whatever they are spent on."""

from __future__ import annotations

import time
from collections.abc import Callable


class TooLongError(Exception):
    """More came than may."""


class Allowance:
    """What is left of an exchange.

    Args:
        seconds: From now.
        n_bytes: That may come in, headers and all.
        clock: Seconds from any start, rising.
    """

    def __init__(
        self, seconds: float, n_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._n_bytes = n_bytes

    def seconds(self) -> float:
        """Seconds that are left, more than none.

        Raises:
            TimeoutError: none are.
        """
        left = self._end - self._clock()
        if left <= 0:
            raise TimeoutError
        return left

    def take(self, n_bytes: int) -> None:
        """Counts what came in.

        Raises:
            TooLongError: it is too much.
        """
        self._n_bytes -= n_bytes
        if self._n_bytes < 0:
            raise TooLongError

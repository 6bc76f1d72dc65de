"""The moment by which a trial has to be done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from evomerge.foundations.errors import SearchTimeoutError, TrialTimeoutError


@dataclass(frozen=True)
class Deadline:
    """Two limits, of which the first to come counts; looked at between two steps of long work.

    Travels to other processes: the clock is the same in all of a machine.

    Attributes:
        seconds: What the work itself may take, from now; None for no limit.
        clock: Seconds from any start, rising.
        search_end: When the search is over, by the clock; None for no limit.
        began: By the clock.
    """

    seconds: float | None = None
    clock: Callable[[], float] = time.monotonic
    search_end: float | None = None
    began: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "began", self.clock())

    @property
    def moment(self) -> float:
        """When it is over, by the clock; ``inf`` for no limit."""
        own = math.inf if self.seconds is None else self.began + self.seconds
        return own if self.search_end is None else min(own, self.search_end)

    @property
    def left(self) -> float:
        """Seconds until then, negative afterwards."""
        return self.moment - self.clock()

    def check(self) -> None:
        """Does nothing in time.

        Raises:
            TrialTimeoutError: the work took too long.
            SearchTimeoutError: the search is over.
        """
        error = self.missed()
        if error is not None:
            raise error

    def missed(self, by: float = 0.0) -> TrialTimeoutError | SearchTimeoutError | None:
        """What :meth:`check` raises once it is over since ``by`` seconds."""
        if self.left >= -by:
            return None
        if self.seconds is None or self.moment < self.began + self.seconds:
            return SearchTimeoutError("the time of the search is over")
        return TrialTimeoutError(f"took longer than {self.seconds:g} seconds")

"""The contract of every tracker: it is shown the run now and then, and keeps what is new in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from evomerge.run.recorded_run import RecordedRun


class Tracker(ABC):
    """Keeps a run for others; nothing reads it back, and the ledger can make it anew.

    Args:
        run: The run as it stands; with at least one scored trial, unless ``begins_with_run``.

    Attributes:
        target: What it writes, for messages: the name of a file in the run folder, or in words.
        begins_with_run: Whether it is there from the first event on, not from the first score.
    """

    target: ClassVar[str]
    begins_with_run: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, run: RecordedRun) -> None:
        """Begins anew, whatever an earlier process left."""

    @abstractmethod
    def update(self, run: RecordedRun) -> None:
        """Brings it up to the run: trials that are new since, each in its place."""

    def close(self) -> None:  # noqa: B027  # most hold nothing
        """Frees what it holds; the run is over, or left."""

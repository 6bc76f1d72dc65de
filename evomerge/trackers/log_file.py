"""What libraries say while a run goes on, and where failures come from: log.txt."""

from __future__ import annotations

from typing import ClassVar

from evomerge.foundations.library_log import log_to
from evomerge.run.recorded_run import RecordedRun
from evomerge.trackers.base import Tracker


class LogFile(Tracker):
    """Writes log records as they come; what an earlier process wrote stays."""

    target: ClassVar[str] = "log.txt"
    begins_with_run: ClassVar[bool] = True

    def __init__(self, run: RecordedRun) -> None:
        """See :class:`Tracker`."""
        self._end = log_to(run.ledger.folder.path / self.target)

    def update(self, run: RecordedRun) -> None:
        """Nothing waits for it."""

    def close(self) -> None:
        """See :meth:`Tracker.close`."""
        self._end()

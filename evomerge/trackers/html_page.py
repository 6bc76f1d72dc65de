"""The run as a page for people: report.html."""

from __future__ import annotations

from typing import ClassVar

from evomerge.report.page import write_report
from evomerge.run.recorded_run import RecordedRun
from evomerge.trackers.base import Tracker


class HtmlPage(Tracker):
    """Writes the whole page each time: its tables and curves are of all trials."""

    target: ClassVar[str] = "report.html"

    def __init__(self, run: RecordedRun) -> None:
        """Nothing is kept between two pages."""

    def update(self, run: RecordedRun) -> None:
        """See :class:`Tracker`."""
        write_report(run)

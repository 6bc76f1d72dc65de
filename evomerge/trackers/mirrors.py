"""The files that mirror the ledger while a run goes on: study.journal and report.html."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from evomerge.foundations.errors import told
from evomerge.genome.schema import Genome
from evomerge.nouns.events import Event, Notice, RunFinished, TrialFinished
from evomerge.report.page import write_report
from evomerge.run.ledger.history import Ledger
from evomerge.run.recorded_run import recorded_run

if TYPE_CHECKING:
    from evomerge.trackers.optuna_journal import OptunaJournal

_SHARE = 0.01  # of the run's time that mirrors may take before its end


class Mirrors:
    """Rewrites the mirrors now and then, so rarely that it costs next to nothing.

    Args:
        ledger: The history they mirror.
        genome: What is searched.
        clock: Seconds from any start, rising.
    """

    def __init__(
        self, ledger: Ledger, genome: Genome, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ledger = ledger
        self.genome = genome
        self.clock = clock
        self._journal: OptunaJournal | None = None
        self._not_before = clock()
        self._has_failed = False

    def see(self, event: Event) -> Iterator[Notice]:
        """Takes an event in, and writes if enough time has passed.

        A mirror never ends a run: what keeps it from being written is told once.
        """
        is_new_trial = isinstance(event, TrialFinished) and not event.was_recorded
        is_due = is_new_trial and self.clock() >= self._not_before
        if is_due or isinstance(event, RunFinished):
            started = self.clock()
            try:
                self.write()
            except Exception as error:  # two libraries and a disk: anything may be wrong
                if not self._has_failed:
                    reason = told(error).rstrip(".")
                    yield Notice(f"report.html and study.journal could not be written ({reason})")
                self._has_failed = True
            now = self.clock()
            self._not_before = now + (now - started) / _SHARE

    def write(self) -> None:
        """Brings both files up to the ledger."""
        from evomerge.trackers.optuna_journal import OptunaJournal  # loads optuna

        run = recorded_run(self.ledger, self.genome)
        if not run.standing.complete:
            return
        if self._journal is None:
            self._journal = OptunaJournal(run)
        else:
            self._journal.update(run.standing)
        write_report(run)

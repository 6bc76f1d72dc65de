"""Feeds trackers with a run: rarely enough that they cost next to nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from evomerge.foundations.errors import told
from evomerge.genome.schema import Genome
from evomerge.nouns.events import Event, Notice, RunFinished, RunStarted, TrialFinished
from evomerge.run.ledger.history import Ledger
from evomerge.run.recorded_run import RecordedRun, recorded_run
from evomerge.trackers import TRACKERS
from evomerge.trackers.base import Tracker

_SHARE = 0.01  # of the run's time that trackers may take before its end


def targets_of(names: Sequence[str]) -> list[str]:
    """What trackers write."""
    return [TRACKERS[name].target for name in names]


class Feed:
    """Shows a run to its trackers now and then, and at its end.

    Args:
        ledger: The history they keep.
        genome: What is searched.
        names: Of trackers.
        clock: Seconds from any start, rising.
    """

    def __init__(
        self,
        ledger: Ledger,
        genome: Genome,
        names: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger
        self.genome = genome
        self.names = tuple(names)
        self.clock = clock
        self._trackers: dict[str, Tracker] = {}
        self._failed: set[str] = set()
        self._not_before = clock()

    def __call__(self, event: Event) -> Iterator[Notice]:
        """Takes an event in, and shows the run if enough time has passed.

        A tracker never ends a run: what keeps one from its work is told once.
        """
        if isinstance(event, RunStarted):
            yield from self._shown([name for name in self.names if _begins_with_run(name)])
        is_new_trial = isinstance(event, TrialFinished) and not event.was_recorded
        is_due = is_new_trial and self.clock() >= self._not_before
        if is_due or isinstance(event, RunFinished):
            started = self.clock()
            yield from self.update()
            now = self.clock()
            self._not_before = now + (now - started) / _SHARE

    def update(self) -> Iterator[Notice]:
        """Brings every tracker up to the ledger, once there is a score."""
        yield from self._shown(self.names, is_scored=True)

    def close(self) -> None:
        """Has every tracker free what it holds."""
        while self._trackers:
            self._trackers.popitem()[1].close()

    def _shown(self, names: Sequence[str], *, is_scored: bool = False) -> Iterator[Notice]:
        """Shows the run to some of the trackers."""
        if not names:
            return
        try:
            run = recorded_run(self.ledger, self.genome)
        except Exception as error:  # whatever it is, the search can go on
            yield from self._told(f"what is kept for others ({', '.join(names)})", error)
            return
        if run.leaderboard.complete or not is_scored:
            for name in names:
                yield from self._update(name, run)

    def _update(self, name: str, run: RecordedRun) -> Iterator[Notice]:
        try:
            if name not in self._trackers:
                self._trackers[name] = TRACKERS[name](run)
            self._trackers[name].update(run)
        except Exception as error:  # libraries, a disk, a network: anything may be wrong
            yield from self._told(_target(name), error)

    def _told(self, target: str, error: Exception) -> Iterator[Notice]:
        """What could not be written, the first time."""
        if target not in self._failed:
            yield Notice(f"{target} could not be written ({told(error).rstrip('.')})")
        self._failed.add(target)


def _begins_with_run(name: str) -> bool:
    """Whether a tracker wants the first event; one that cannot be loaded is told of later."""
    try:
        return TRACKERS[name].begins_with_run
    except Exception:  # it needs a package that is not there, or not as it should be
        return False


def _target(name: str) -> str:
    """What a tracker writes, for messages, also of one that cannot be loaded."""
    try:
        return TRACKERS[name].target
    except Exception:  # which is the message
        return f"tracker {name}"

"""Several trials at once, each worker in a process; replaced if it dies, killed if overdue.

Workers only merge and score; what they find goes back to this process, which keeps the books.
A worker that dies (killed for memory, say) does not end the run: a new worker takes its place
and tries the same once more; a trial that kills two workers has failed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from multiprocessing.connection import Connection, wait
from typing import Any, ClassVar

from evomerge.executors.base import (
    Executor,
    ExecutorEvent,
    ExecutorSettings,
    Job,
    JobGivenUp,
    Message,
)
from evomerge.executors.process_settings import ProcessSettings
from evomerge.executors.slot import Slot
from evomerge.foundations.alarm import GRACE
from evomerge.foundations.errors import Problem
from evomerge.foundations.machine import visible_gpus
from evomerge.genome.schema import Genome
from evomerge.nouns.evaluation import Outcome, TrialState

SECONDS_TO_LEAVE = 5.0


class Processes(Executor):
    """Runs up to ``n_workers`` jobs at once; the worker factory must be picklable."""

    Settings: ClassVar[type[ExecutorSettings]] = ProcessSettings

    def _start(self) -> None:
        self._slots: list[Slot] = []
        self._has_killed: set[tuple[int, str]] = set()  # trial and split that ended a worker

    @classmethod
    def obstacles(cls, genome: Genome, settings: Any) -> Iterator[Problem]:
        """See :meth:`Executor.obstacles`."""
        yield from super().obstacles(genome, settings)
        if settings.devices is None:
            return
        yield from settings.misfits_of(genome.execution.workers, visible_gpus())
        given = genome.evaluation.device
        if given not in ("auto", "cuda"):
            yield Problem(
                f"each worker sees its own devices alone, got evaluation.device: {given}",
                "devices",
                "Leave evaluation.device out.",
            )

    @cached_property
    def _devices(self) -> tuple[str, ...]:
        """What each worker sees; empty where all see all."""
        if self.settings.devices is None:
            return ()
        slots: tuple[str, ...] = self.settings.slots(self.n_workers, visible_gpus())
        return slots

    @property
    def free(self) -> int:
        """See :meth:`Executor.free`."""
        return self.n_workers - len(self._busy())

    def _busy(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.job is not None]

    def _begin(self, job: Job) -> None:
        self._idle_slot().give(job, self.batch_divisor, self.trial_timeout)

    def _idle_slot(self) -> Slot:
        """A living slot without a job; a new one where there is none."""
        for slot in [slot for slot in self._slots if slot.job is None]:
            if slot.process.is_alive():
                return slot
            self._slots.remove(slot)
        taken = {slot.devices for slot in self._slots}
        devices = next((one for one in self._devices if one not in taken), None)
        self._slots.append(Slot(self.make_worker, devices))
        return self._slots[-1]

    def next(self) -> Iterator[ExecutorEvent]:
        """See :meth:`Executor.next`."""
        n_out = len(self._busy())
        while n_out and len(self._busy()) == n_out:
            busy = {slot.connection: slot for slot in self._busy()}
            for ready in wait(list(busy), self._patience(list(busy.values()))):
                if isinstance(ready, Connection):
                    yield from self._heard(busy[ready])
            yield from self._end_overdue()

    @staticmethod
    def _patience(busy: Sequence[Slot]) -> float | None:
        """Seconds until the first of the jobs has to be ended; None: none ever has to."""
        left = min(slot.deadline.left for slot in busy) + GRACE
        return None if left == float("inf") else max(left, 0.0)

    def _heard(self, slot: Slot) -> Iterator[ExecutorEvent]:
        job = slot.job
        if job is None:
            raise RuntimeError("a worker without a job spoke")
        message: Message
        try:
            message = slot.hear(self.trial_timeout)
        except (EOFError, ConnectionError):
            if self._may_try_again(slot, job):
                if job.is_over:
                    yield JobGivenUp(job)
                else:
                    self._begin(job)
                return
            message = _why_it_died(slot)
        if message is not None and not isinstance(message, str):
            slot.job = None
        yield from self.heard(job, message)

    def _may_try_again(self, slot: Slot, job: Job) -> bool:
        """Buries a worker; whether its trial deserves another one."""
        slot.process.join()
        self._slots.remove(slot)
        key = (job.candidate.trial_id, job.split)
        is_first = key not in self._has_killed
        self._has_killed.add(key)
        return is_first and not self.is_stopping

    def _end_overdue(self) -> Iterator[ExecutorEvent]:
        """Kills workers that were to be done by now and have nothing to say."""
        for slot in list(self._slots):
            job = slot.job
            if job is None or slot.deadline.missed(by=GRACE) is None or slot.connection.poll():
                continue
            slot.kill()
            self._slots.remove(slot)
            yield self.ended(job, slot.stage, slot.deadline)

    def close(self) -> None:
        """Ends all worker processes."""
        for slot in self._slots:
            slot.dismiss()
        gone = time.monotonic() + SECONDS_TO_LEAVE
        while self._slots:
            self._slots.pop().end(gone)


def _why_it_died(slot: Slot) -> Outcome:
    code = slot.process.exitcode
    reason = f"the worker process ended with exit code {code}"
    if code == -9:
        reason += " (killed, most often because memory ran out)"
    return Outcome(TrialState.FAILED, failure=reason)

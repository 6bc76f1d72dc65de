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
    tried_again,
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
    lends: ClassVar[bool] = True

    def _start(self) -> None:
        self._slots: list[Slot] = []
        self._lent: str | None = None  # devices of a slot that this process uses
        self._has_killed: set[tuple[int, str]] = set()  # trial and split that ended a worker

    @classmethod
    def obstacles(cls, genome: Genome, settings: Any) -> Iterator[Problem]:
        """See :meth:`Executor.obstacles`."""
        yield from super().obstacles(genome, settings)
        if settings.devices is None:
            return
        yield from settings.misfits_of(genome.execution.workers, visible_gpus())
        if settings.devices_per_worker > 1:
            yield Problem(
                f"got {settings.devices_per_worker}, but no model is spread over several GPUs yet: "
                "layers would have to be merged and run on the GPU that each is on",
                "devices_per_worker",
                "Leave it out; a model that one GPU cannot hold may fit with evaluation.dtype: "
                "bfloat16.",
            )
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
            if slot.is_alive:
                return slot
            self._slots.remove(slot)
            slot.kill()  # what it left behind
        self._slots.append(Slot(self.make_worker, self._untaken))
        return self._slots[-1]

    @property
    def _untaken(self) -> str | None:
        """The devices of a slot without a process; None where all see all."""
        taken = {self._lent, *(slot.devices for slot in self._slots)}
        return next((one for one in self._devices if one not in taken), None)

    def lend(self) -> str | None:
        """See :meth:`Executor.lend`: the process of a free slot ends."""
        _ = self._devices  # of all slots, this one too
        if not self.free:
            raise RuntimeError("a slot was to be lent while none was free")
        if len(self._slots) == self.n_workers:
            idle = next(slot for slot in self._slots if slot.job is None)
            self._slots.remove(idle)
            idle.kill()
        self.n_workers -= 1
        self._lent = self._untaken
        if self._lent is None:
            return None
        return f"cuda:{visible_gpus().index(self._lent.split(',')[0])}"

    def take_back(self) -> None:
        """See :meth:`Executor.take_back`."""
        self.n_workers, self._lent = self.n_workers + 1, None

    def settle(self) -> None:
        """See :meth:`Executor.settle`: a new process has to begin before its job can be sent."""
        for slot in self._busy():
            slot.settle(self.trial_timeout)

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
            if not self._may_try_again(slot, job):
                yield from self.heard(job, _why_it_died(slot))
            elif job.is_over:
                yield JobGivenUp(job)
            else:
                self._begin(job)
                yield tried_again(job, _how_it_died(slot))
            return
        if message is not None and not isinstance(message, str):
            self._set_free(slot)
        yield from self.heard(job, message)

    def _set_free(self, slot: Slot) -> None:
        """Has no job in a slot any more; its process waits for the next one."""
        slot.job = None

    def _may_try_again(self, slot: Slot, job: Job) -> bool:
        """Buries a worker; whether its trial deserves another one."""
        slot.kill()
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
    return Outcome(TrialState.FAILED, failure=_how_it_died(slot))


def _how_it_died(slot: Slot) -> str:
    code = slot.process.exitcode
    killed = " (killed, most often because memory ran out)" if code == -9 else ""
    return f"the worker process ended with exit code {code}{killed}"

"""Several trials at once, each worker in a process; replaced if it dies, killed if overdue.

Workers only merge and score; what they find goes back to this process, which keeps the books.
A worker that dies (killed for memory, say) does not end the run: a new worker takes its place
and tries the same once more; a trial that kills two workers has failed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

from evomerge.executors.base import (
    LOADING,
    Executor,
    ExecutorEvent,
    Job,
    JobFinished,
    WorkerFactory,
    finished,
)
from evomerge.executors.slot import Slot
from evomerge.foundations.alarm import GRACE
from evomerge.foundations.errors import EvomergeError, SearchTimeoutError
from evomerge.nouns.events import StageStarted, TrialStarted
from evomerge.nouns.trial import Outcome, TrialState

SECONDS_TO_LEAVE = 5.0


class Processes(Executor):
    """Runs up to ``n_workers`` jobs at once; the worker factory must be picklable."""

    def __init__(
        self,
        make_worker: WorkerFactory,
        n_workers: int = 1,
        trial_timeout: float | None = None,
    ) -> None:
        super().__init__(make_worker, n_workers, trial_timeout)
        self._slots: list[Slot] = []
        self._waiting: deque[Job] = deque()
        self._has_killed: set[tuple[int, str]] = set()  # trial and split that ended a worker

    def run(self, jobs: Sequence[Job]) -> Iterator[ExecutorEvent]:
        """See :meth:`Executor.run`."""
        waiting = self._waiting = deque(jobs)
        while waiting or any(slot.job for slot in self._slots):
            if self._is_stopping:
                waiting.clear()
            while waiting and waiting[0].is_over:
                waiting.popleft()
            for slot in self._idle(len(waiting)):
                job = waiting.popleft()
                slot.give(job, self.batch_divisor, self.trial_timeout)
                yield TrialStarted(job.candidate)
            busy = {slot.connection: slot for slot in self._slots if slot.job is not None}
            for ready in wait(list(busy), self._patience(list(busy.values()))) if busy else ():
                if isinstance(ready, Connection):
                    yield from self._heard(busy[ready])
            yield from self._end_overdue()

    def _idle(self, n_wanted: int) -> list[Slot]:
        """Living slots without a job; new ones are started while there is room."""
        for slot in [slot for slot in self._slots if slot.job is None]:
            if not slot.process.is_alive():
                self._slots.remove(slot)
        idle = [slot for slot in self._slots if slot.job is None]
        n_new = min(n_wanted - len(idle), self.n_workers - len(self._slots))
        started = [Slot(self.make_worker) for _ in range(max(n_new, 0))]
        self._slots += started
        return [*idle, *started][:n_wanted]

    @staticmethod
    def _patience(busy: Sequence[Slot]) -> float | None:
        """Seconds until the first of the jobs has to be ended; None: none ever has to."""
        left = min(slot.deadline.left for slot in busy) + GRACE
        return None if left == float("inf") else max(left, 0.0)

    def _heard(self, slot: Slot) -> Iterator[ExecutorEvent]:
        job = slot.job
        if job is None:
            raise RuntimeError("a worker without a job spoke")
        try:
            message = slot.hear(self.trial_timeout)
        except (EOFError, ConnectionError):
            if self._may_try_again(slot, job):
                self._waiting.appendleft(job)
                return
            message = _why_it_died(slot)
        if message is None:
            return
        if isinstance(message, str):
            self._has_loaded = True
            if message != LOADING:
                yield StageStarted(job.candidate.trial_id, message)
            return
        slot.job = None
        if isinstance(message, SearchTimeoutError):
            return
        if isinstance(message, EvomergeError):
            raise message
        yield finished(job, message)

    def _may_try_again(self, slot: Slot, job: Job) -> bool:
        """Buries a worker; whether its trial deserves another one."""
        slot.process.join()
        self._slots.remove(slot)
        key = (job.candidate.trial_id, job.split)
        is_first = key not in self._has_killed
        self._has_killed.add(key)
        return is_first and not self._is_stopping

    def _end_overdue(self) -> Iterator[JobFinished]:
        """Kills workers that were to be done by now and have nothing to say."""
        for slot in list(self._slots):
            job = slot.job
            if job is None or slot.deadline.missed(by=GRACE) is None or slot.connection.poll():
                continue
            slot.kill()
            self._slots.remove(slot)
            yield from self.given_up(job, slot.stage, slot.deadline)

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

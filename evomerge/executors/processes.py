"""Several trials at once, each worker in a process of its own.

Workers only merge and score; what they find goes back to this process, which keeps the books.
A worker that dies (killed for memory, say) does not end the run: a new worker takes its place
and tries the same once more; a trial that kills two workers has failed.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from evomerge.errors import EvomergeError
from evomerge.events import StageStarted, TrialStarted
from evomerge.executors.base import (
    Executor,
    ExecutorEvent,
    Job,
    JobFinished,
    WorkerFactory,
    built,
)
from evomerge.trial import Outcome, TrialState

SECONDS_TO_LEAVE = 10.0
# A worker looks at the time between forward passes; one that has not by then hangs.
PATIENCE_WITH_TIMEOUT = 2.0

Message = str | Outcome | EvomergeError  # a stage, a result, why no trial can succeed


class _Slot:
    """One worker process, and the job it has in hand."""

    def __init__(self, make_worker: WorkerFactory) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, child = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(child, make_worker), daemon=True
        )
        self.process.start()
        child.close()
        self.job: Job | None = None
        self.since: float | None = None  # the job's first stage; None before it

    def give(self, job: Job, batch_divisor: int) -> None:
        self.job, self.since = job, None
        with suppress(ConnectionError):  # it died idle: it is buried when it is heard next
            self.connection.send((job, batch_divisor))

    def hear(self) -> Message:
        """The next message; raises EOFError where the process died."""
        message: Message = self.connection.recv()
        if self.since is None:
            self.since = time.monotonic()
        return message

    def end(self) -> None:
        """Asks the process to leave, then makes it; one at work would not hear."""
        self.connection.close()
        if self.job is not None:
            self.process.kill()
        self.process.join(SECONDS_TO_LEAVE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Processes(Executor):
    """Runs up to ``n_workers`` jobs at once; the worker factory must be picklable."""

    def __init__(
        self,
        make_worker: WorkerFactory,
        n_workers: int = 1,
        trial_timeout: float | None = None,
    ) -> None:
        super().__init__(make_worker, n_workers, trial_timeout)
        self._slots: list[_Slot] = []
        self._waiting: deque[Job] = deque()
        self._has_killed: set[tuple[int, str]] = set()  # trial and split that ended a worker

    def run(self, jobs: Sequence[Job]) -> Iterator[ExecutorEvent]:
        """See :meth:`Executor.run`."""
        waiting = self._waiting = deque(jobs)
        while waiting or any(slot.job for slot in self._slots):
            if self._is_stopping:
                waiting.clear()
            for slot in self._idle(len(waiting)):
                job = waiting.popleft()
                slot.give(job, self.batch_divisor)
                yield TrialStarted(job.candidate)
            busy = {slot.connection: slot for slot in self._slots if slot.job is not None}
            for ready in wait(list(busy), self.trial_timeout):
                if isinstance(ready, Connection):
                    yield from self._heard(busy[ready])
            self._end_hanging()

    def _idle(self, n_wanted: int) -> list[_Slot]:
        """Living slots without a job; new ones are started while there is room."""
        for slot in [slot for slot in self._slots if slot.job is None]:
            if not slot.process.is_alive():
                self._slots.remove(slot)
        idle = [slot for slot in self._slots if slot.job is None]
        n_new = min(n_wanted - len(idle), self.n_workers - len(self._slots))
        started = [_Slot(self.make_worker) for _ in range(max(n_new, 0))]
        self._slots += started
        return [*idle, *started][:n_wanted]

    def _heard(self, slot: _Slot) -> Iterator[ExecutorEvent]:
        job = slot.job
        if job is None:
            raise RuntimeError("a worker without a job spoke")
        try:
            message = slot.hear()
        except (EOFError, ConnectionError):
            if self._may_try_again(slot, job):
                self._waiting.appendleft(job)
                return
            message = self._why_it_died(slot)
        if isinstance(message, str):
            yield StageStarted(job.candidate.trial_id, message)
            return
        slot.job = None
        if isinstance(message, EvomergeError):
            raise message
        yield JobFinished(job, message)

    def _may_try_again(self, slot: _Slot, job: Job) -> bool:
        """Buries a worker; whether its trial deserves another one."""
        slot.process.join()
        self._slots.remove(slot)
        key = (job.candidate.trial_id, job.split)
        is_first = key not in self._has_killed
        self._has_killed.add(key)
        return is_first and not self._is_overdue(slot) and not self._is_stopping

    def _why_it_died(self, slot: _Slot) -> Outcome:
        code = slot.process.exitcode
        reason = f"the worker process ended with exit code {code}"
        if self._is_overdue(slot):
            reason = f"took longer than {self.trial_timeout:g} seconds and did not end by itself"
        elif code == -9:
            reason += " (killed, most often because memory ran out)"
        return Outcome(TrialState.FAILED, failure=reason)

    def _is_overdue(self, slot: _Slot) -> bool:
        is_timed = slot.job is not None and slot.job.split == "tasks"
        if self.trial_timeout is None or slot.since is None or not is_timed:
            return False
        return time.monotonic() - slot.since > PATIENCE_WITH_TIMEOUT * self.trial_timeout

    def _end_hanging(self) -> None:
        """Kills workers that are long over time; their trials fail when they are heard next."""
        for slot in self._slots:
            if slot.job is not None and self._is_overdue(slot):
                slot.process.kill()

    def close(self) -> None:
        """Ends all worker processes."""
        while self._slots:
            self._slots.pop().end()


def _work(connection: Connection, make_worker: WorkerFactory) -> None:
    """The life of a worker process: until the other side is gone.

    Ctrl-C reaches every process of a terminal; whether a trial ends is for the other side to say.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):
        _serve(connection, make_worker)


def _serve(connection: Connection, make_worker: WorkerFactory) -> None:
    """Jobs in, stages and outcomes out."""
    worker = None
    while True:
        job, batch_divisor = connection.recv()
        try:
            worker = worker or built(make_worker)
            steps = worker.run(job.candidate, job.split, batch_divisor)
            while True:
                connection.send(next(steps))
        except StopIteration as finished:
            connection.send(finished.value)
        except EvomergeError as error:
            connection.send(error)

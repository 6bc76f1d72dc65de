"""Several trials at once, each worker in a process of its own.

Workers only merge and score; what they find goes back to this process, which keeps the books.
A worker that dies (killed for memory, say) costs its trial, not the run: the trial fails with
the exit code and a new worker takes its place.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from evomerge.events import StageStarted, TrialStarted
from evomerge.executors.base import Executor, ExecutorEvent, Job, JobFinished, WorkerFactory
from evomerge.trial import Outcome, TrialState

SECONDS_TO_LEAVE = 10.0


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

    def give(self, job: Job) -> None:
        self.job = job
        self.connection.send(job)

    def end(self) -> None:
        """Asks the process to leave, then makes it."""
        self.connection.close()
        self.process.join(SECONDS_TO_LEAVE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Processes(Executor):
    """Runs up to ``n_workers`` jobs at once; the worker factory must be picklable."""

    def __init__(self, make_worker: WorkerFactory, n_workers: int = 1) -> None:
        super().__init__(make_worker, n_workers)
        self._slots: list[_Slot] = []

    def run(self, jobs: Sequence[Job]) -> Iterator[ExecutorEvent]:
        """See :meth:`Executor.run`."""
        waiting = deque(jobs)
        while waiting or any(slot.job for slot in self._slots):
            for slot in self._idle(len(waiting)):
                job = waiting.popleft()
                slot.give(job)
                yield TrialStarted(job.candidate)
            busy = {slot.connection: slot for slot in self._slots if slot.job is not None}
            for ready in wait(list(busy)):
                if isinstance(ready, Connection):
                    yield self._heard(busy[ready])

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

    def _heard(self, slot: _Slot) -> ExecutorEvent:
        job = slot.job
        if job is None:
            raise RuntimeError("a worker without a job spoke")
        try:
            message: str | Outcome = slot.connection.recv()
        except (EOFError, ConnectionError):
            message = self._buried(slot)
        if isinstance(message, str):
            return StageStarted(job.candidate.trial_id, message)
        slot.job = None
        return JobFinished(job, message)

    def _buried(self, slot: _Slot) -> Outcome:
        slot.process.join()
        self._slots.remove(slot)
        code = slot.process.exitcode
        reason = f"the worker process ended with exit code {code}"
        if code == -9:
            reason += " (killed, most often because memory ran out)"
        return Outcome(TrialState.FAILED, failure=reason)

    def close(self) -> None:
        """Ends all worker processes."""
        while self._slots:
            self._slots.pop().end()


def _work(connection: Connection, make_worker: WorkerFactory) -> None:
    """The life of a worker process: until the other side is gone."""
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):
        _serve(connection, make_worker)


def _serve(connection: Connection, make_worker: WorkerFactory) -> None:
    """Jobs in, stages and outcomes out."""
    worker = None
    while True:
        job: Job = connection.recv()
        try:
            worker = worker or make_worker()
        except Exception as error:  # the run goes on and says why this trial failed
            reason = f"start of the worker: {type(error).__name__}: {error}"
            connection.send(Outcome(TrialState.FAILED, failure=reason))
            continue
        steps = worker.run(job.candidate, job.split)
        while True:
            try:
                connection.send(next(steps))
            except StopIteration as finished:
                connection.send(finished.value)
                break

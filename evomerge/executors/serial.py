"""One trial after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

from evomerge.executors.base import (
    LOADING,
    Executor,
    ExecutorEvent,
    Job,
    JobGivenUp,
    built,
    finished,
)
from evomerge.executors.worker import Worker
from evomerge.foundations.alarm import OverdueError, ended_in_time
from evomerge.foundations.errors import SearchTimeoutError
from evomerge.nouns.events import StageStarted


class Serial(Executor):
    """Runs a job when it is asked what comes next; the worker is built with the first one.

    What does not look at its deadline is interrupted where it is; the worker is then built anew.
    """

    most_workers: ClassVar[int | None] = 1
    runs_here: ClassVar[bool] = True

    def _start(self) -> None:
        self._job: Job | None = None

    @cached_property
    def worker(self) -> Worker:
        """See :attr:`Executor.worker`."""
        return built(self.make_worker)

    def forget_workers(self) -> None:
        """See :meth:`Executor.forget_workers`."""
        vars(self).pop("worker", None)

    @property
    def free(self) -> int:
        """See :meth:`Executor.free`."""
        return int(self._job is None)

    def _begin(self, job: Job) -> None:
        self._job = job

    def next(self) -> Iterator[ExecutorEvent]:
        """See :meth:`Executor.next`."""
        job, self._job = self._job, None
        if job is not None:
            yield from self._tried(job)

    def _tried(self, job: Job) -> Iterator[ExecutorEvent]:
        stage, deadline = LOADING, self.deadline(job)
        name = f"trial {job.candidate.trial_id}"
        try:
            worker = ended_in_time(deadline, lambda: self.worker, name)
            self._has_loaded, deadline = True, self.deadline(job)
            steps = worker.run(job.candidate, job.split, self.batch_divisor, deadline)
            while True:
                stage = ended_in_time(deadline, lambda: next(steps), name)
                yield StageStarted(job.candidate.trial_id, stage)
        except StopIteration as ended:
            yield finished(job, ended.value)
        except SearchTimeoutError:
            yield JobGivenUp(job)
        except OverdueError:
            self.forget_workers()
            yield self.ended(job, stage, deadline)

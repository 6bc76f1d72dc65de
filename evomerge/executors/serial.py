"""One trial after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from evomerge.executors.base import LOADING, Executor, ExecutorEvent, Job, built, finished
from evomerge.executors.worker import Worker
from evomerge.foundations.alarm import OverdueError, ended_in_time
from evomerge.foundations.errors import SearchTimeoutError
from evomerge.nouns.events import StageStarted, TrialStarted


class Serial(Executor):
    """Runs jobs in the order given; the worker is built with the first one.

    What does not look at its deadline is interrupted where it is; the worker is then built anew.
    """

    @cached_property
    def worker(self) -> Worker:
        """Who runs the jobs, for what else is to be done with its model between them."""
        return built(self.make_worker)

    def forget_workers(self) -> None:
        """See :meth:`Executor.forget_workers`."""
        vars(self).pop("worker", None)

    def run(self, jobs: Sequence[Job]) -> Iterator[ExecutorEvent]:
        """See :meth:`Executor.run`."""
        for job in jobs:
            if self._is_stopping:
                return
            if not job.is_over:
                yield TrialStarted(job.candidate)
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
            return
        except OverdueError:
            self.forget_workers()
            yield from self.given_up(job, stage, deadline)

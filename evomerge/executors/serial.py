"""One trial after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from evomerge.events import StageStarted, TrialStarted
from evomerge.executors.base import Executor, ExecutorEvent, Job, JobFinished, built
from evomerge.executors.worker import Worker


class Serial(Executor):
    """Runs jobs in the order given; the worker is built with the first one."""

    @cached_property
    def worker(self) -> Worker:
        """Who runs the jobs, for what else is to be done with its model between them."""
        return built(self.make_worker)

    def run(self, jobs: Sequence[Job]) -> Iterator[ExecutorEvent]:
        """See :meth:`Executor.run`."""
        for job in jobs:
            if self._is_stopping:
                return
            yield TrialStarted(job.candidate)
            steps = self.worker.run(job.candidate, job.split, self.batch_divisor)
            while True:
                try:
                    yield StageStarted(job.candidate.trial_id, next(steps))
                except StopIteration as finished:
                    yield JobFinished(job, finished.value)
                    break

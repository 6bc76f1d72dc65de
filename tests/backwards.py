"""An executor that the table does not hold: what a stranger writes, one class in one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import ClassVar

import pytest

from evomerge.executors import EXECUTORS
from evomerge.executors.base import Executor, ExecutorEvent, Job, JobGivenUp, built, finished
from evomerge.executors.worker import Worker
from evomerge.foundations.errors import SearchTimeoutError
from evomerge.nouns.events import StageStarted


@contextmanager
def with_backwards() -> Iterator[None]:
    """Has the table of executors hold it: one line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXECUTORS._targets, "backwards", "tests.backwards:Backwards")
        yield


class Backwards(Executor):
    """Runs the newest of the jobs that are out, in this process."""

    runs_here: ClassVar[bool] = True

    @cached_property
    def _out(self) -> list[Job]:
        return []

    @cached_property
    def worker(self) -> Worker:
        return built(self.make_worker)

    def forget_workers(self) -> None:
        vars(self).pop("worker", None)

    @property
    def free(self) -> int:
        return self.n_workers - len(self._out)

    def _begin(self, job: Job) -> None:
        self._out.append(job)

    def next(self) -> Iterator[ExecutorEvent]:
        if self._out:
            yield from self._tried(self._out.pop())

    def _tried(self, job: Job) -> Iterator[ExecutorEvent]:
        steps = self.worker.run(job.candidate, job.split, self.batch_divisor, self.deadline(job))
        try:
            while True:
                yield StageStarted(job.candidate.trial_id, next(steps))
        except StopIteration as ended:
            yield finished(job, ended.value)
        except SearchTimeoutError:
            yield JobGivenUp(job)

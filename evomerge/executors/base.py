"""The contract of every executor: where trials run, and how many at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from evomerge.events import StageStarted, TrialStarted
from evomerge.executors.worker import Worker
from evomerge.trial import Candidate, Outcome

WorkerFactory = Callable[[], Worker]


@dataclass(frozen=True)
class Job:
    """A candidate and the split of tasks it is to be judged on."""

    candidate: Candidate
    split: str = "tasks"


@dataclass(frozen=True)
class JobFinished:
    """A job is done."""

    job: Job
    outcome: Outcome


ExecutorEvent = TrialStarted | StageStarted | JobFinished


class Executor(ABC):
    """Runs jobs; one that fails gives a failed outcome, never an exception.

    Args:
        make_worker: Builds a worker; called where the worker is to live.
        n_workers: Jobs at once, >= 1.
    """

    def __init__(self, make_worker: WorkerFactory, n_workers: int = 1) -> None:
        self.make_worker = make_worker
        self.n_workers = n_workers

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> Iterator[ExecutorEvent]:
        """Yields one JobFinished per job, in any order, and what happens in between."""

    def close(self) -> None:  # noqa: B027  # most executors hold nothing
        """Ends workers and frees what they hold."""

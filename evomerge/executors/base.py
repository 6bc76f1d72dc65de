"""The contract of every executor: where trials run, and how many at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from evomerge.errors import EvomergeError, RunError
from evomerge.events import StageStarted, TrialStarted
from evomerge.executors.worker import Worker
from evomerge.trial import Candidate, Outcome

WorkerFactory = Callable[[], Worker]


@dataclass(frozen=True)
class Job:
    """A candidate, and the split of tasks it is to be judged on."""

    candidate: Candidate
    split: str = "tasks"


@dataclass(frozen=True)
class JobFinished:
    """A job is done."""

    job: Job
    outcome: Outcome


ExecutorEvent = TrialStarted | StageStarted | JobFinished


class Executor(ABC):
    """Runs jobs; one that fails gives a failed outcome.

    Args:
        make_worker: Builds a worker; called where the worker is to live.
        n_workers: Jobs at once, >= 1.
        trial_timeout: Seconds after which a worker ends its trial by itself; None for no limit.
            An executor that can, ends a worker that does not.

    Attributes:
        batch_divisor: What the batch of every job begun from now on is divided by.
    """

    def __init__(
        self,
        make_worker: WorkerFactory,
        n_workers: int = 1,
        trial_timeout: float | None = None,
    ) -> None:
        self.make_worker = make_worker
        self.n_workers = n_workers
        self.trial_timeout = trial_timeout
        self.batch_divisor = 1
        self._is_stopping = False

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> Iterator[ExecutorEvent]:
        """Yields one JobFinished per job, in any order, and what happens in between.

        After :meth:`stop` no further job is begun; those begun are finished.

        Raises:
            RunError: what failed would fail every job: no worker can be built, a file is gone.
        """

    def stop(self) -> None:
        """Begins no further job."""
        self._is_stopping = True

    def close(self) -> None:  # noqa: B027  # most executors hold nothing
        """Ends workers and frees what they hold."""


def built(make_worker: WorkerFactory) -> Worker:
    """A worker.

    Raises:
        RunError: it cannot be built.
    """
    try:
        return make_worker()
    except EvomergeError:
        raise
    except Exception as error:  # a device, a driver, a package: anything may be missing
        raise RunError(
            f"no worker can be started ({type(error).__name__}: {error})",
            where="execution",
            fix="Run `evomerge doctor`.",
        ) from error

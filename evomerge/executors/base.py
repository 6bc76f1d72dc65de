"""The contract of every executor: where trials run, and how many at once."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from evomerge.executors.worker import Worker
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvomergeError, RunError, told
from evomerge.nouns.events import StageStarted, TrialStarted
from evomerge.nouns.trial import Candidate, Outcome, TrialState

_LOG = logging.getLogger(__name__)
WorkerFactory = Callable[[], Worker]
LOADING = "loading"  # the stage before the first: the worker is built


@dataclass(frozen=True)
class Job:
    """A candidate, and the split of tasks it is to be judged on.

    Attributes:
        candidate: What to try.
        split: Which tasks.
        search_end: When, by ``time.monotonic``, its outcome is no longer asked for; None: never.
    """

    candidate: Candidate
    split: str = "tasks"
    search_end: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nobody asks for it any more."""
        return self.search_end is not None and time.monotonic() > self.search_end


@dataclass(frozen=True)
class JobFinished:
    """A job is done."""

    job: Job
    outcome: Outcome


def finished(job: Job, outcome: Outcome) -> JobFinished:
    """A job that is done; where a failure came from is logged, its sentence is in the outcome."""
    if outcome.traceback:
        where = f"trial {job.candidate.trial_id} ({job.split})"
        _LOG.error("%s failed\n%s", where, outcome.traceback.rstrip())
    return JobFinished(job, outcome)


ExecutorEvent = TrialStarted | StageStarted | JobFinished


class Executor(ABC):
    """Runs jobs; one that fails gives a failed outcome.

    Args:
        make_worker: Builds a worker; called where the worker is to live.
        n_workers: Jobs at once, >= 1.
        trial_timeout: Seconds that a trial may take on any split, and the building of a worker;
            None for no limit. A trial that does not end by itself is ended.

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
        self._has_loaded = False  # some worker was built in time

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> Iterator[ExecutorEvent]:
        """Yields one JobFinished per job, in any order, and what happens in between.

        After :meth:`stop` no further job is begun; those begun are finished. Once the search of
        a job is over, it is not begun, or given up wherever it is, without an outcome.

        Raises:
            RunError: what failed would fail every job: no worker can be built, a file is gone.
        """

    def stop(self) -> None:
        """Begins no further job."""
        self._is_stopping = True

    def forget_workers(self) -> None:  # noqa: B027  # workers elsewhere are ended, not interrupted
        """Builds workers anew that were interrupted at any place; their state is not known."""

    def close(self) -> None:  # noqa: B027  # most executors hold nothing
        """Ends workers and frees what they hold."""

    def deadline(self, job: Job) -> Deadline:
        """By when a job that begins now has to be done."""
        return Deadline(self.trial_timeout, search_end=job.search_end)

    def given_up(self, job: Job, stage: str, deadline: Deadline) -> Iterator[JobFinished]:
        """What becomes of a job that was ended at a stage: a failure, or nothing is said of it.

        Raises:
            RunError: no worker could ever be built in time.
        """
        if self.trial_timeout is None or deadline.moment == job.search_end:
            return
        if stage == LOADING and not self._has_loaded:
            raise RunError(
                f"no worker was ready after {self.trial_timeout:g} seconds",
                where="execution.trial_timeout",
                fix="Allow more: starting a worker has the same limit as a trial.",
            )
        limit = f"took longer than {self.trial_timeout:g} seconds and did not end by itself"
        spent = {stage.partition(" ")[0]: deadline.clock() - deadline.began}
        yield JobFinished(job, Outcome(TrialState.FAILED, None, f"{stage}: {limit}", spent))


def built(make_worker: WorkerFactory) -> Worker:
    """A worker.

    Raises:
        RunError: it cannot be built.
    """
    try:
        return make_worker()
    except EvomergeError:
        raise
    # A device, a driver, a package: anything may be missing; the code of a task may call exit().
    except (Exception, SystemExit) as error:
        raise RunError(
            f"no worker can be started ({told(error)})",
            where="execution",
            fix="Run `evomerge doctor`.",
        ) from error

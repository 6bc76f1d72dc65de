"""The contract of every executor: where trials run, and how many at once."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from evomerge.executors.worker import Worker
from evomerge.foundations.counted import counted
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import (
    EvomergeError,
    Problem,
    RunError,
    SearchTimeoutError,
    told,
)
from evomerge.foundations.machine import usable_cores
from evomerge.genome.block import Block
from evomerge.genome.schema import Genome
from evomerge.nouns.evaluation import Outcome, TrialState
from evomerge.nouns.events import Notice, StageStarted, TrialStarted
from evomerge.nouns.trial import Candidate

_LOG = logging.getLogger(__name__)
MakeWorker = Callable[[], Worker]
LOADING = "loading"  # the stage before the first: the worker is built
# What a worker elsewhere says: a stage, a result, why no trial can succeed; None: it listens now.
Message = str | Outcome | EvomergeError | None


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


@dataclass(frozen=True)
class JobGivenUp:
    """A job has no outcome: its search was over before it was done."""

    job: Job


def finished(job: Job, outcome: Outcome) -> JobFinished:
    """A job that is done; where a failure came from is logged, its sentence is in the outcome."""
    if outcome.traceback:
        where = f"trial {job.candidate.trial_id} ({job.split})"
        _LOG.error("%s failed\n%s", where, outcome.traceback.rstrip())
    return JobFinished(job, outcome)


def tried_again(job: Job, how: str) -> Notice:
    """What is told, and logged, of a job whose worker died: it takes time, and may be memory."""
    told = f"{how}; trial {job.candidate.trial_id} ({job.split}) is tried once more"
    _LOG.warning(told)
    return Notice(told)


ExecutorEvent = TrialStarted | StageStarted | Notice | JobFinished | JobGivenUp


class ExecutorSettings(Block):
    """Settings of one executor beside the common ones; subclasses add fields."""

    @property
    def device(self) -> str | None:
        """Where its workers' live models are; None: as the genome says, or this machine has it."""
        return None

    @property
    def copies_in(self) -> str | None:
        """Folder of each machine for copies of the models' folders; None: they have none."""
        return None

    def trusted(self) -> Iterator[Problem]:
        """What of it can run a stranger's code, which ``--allow-code`` alone allows."""
        return iter(())

    def sharing(self, n_workers: int) -> int:
        """Workers whose live models share one device."""
        return n_workers

    def threads(self, n_workers: int) -> int | None:
        """Threads of the arithmetic of each worker, which share the cores; None: torch's choice."""
        return None if n_workers == 1 else max(usable_cores() // n_workers, 1)


class Executor(ABC):
    """Runs jobs, each in a slot; one that fails gives a failed outcome.

    A job is submitted while a slot is free; :meth:`next` tells what happens until one is over.

    Args:
        make_worker: Builds a worker; called where the worker is to live.
        n_workers: Jobs at once, >= 1.
        trial_timeout: Seconds that a trial may take on any split, and the building of a worker;
            None for no limit. A trial that does not end by itself is ended.
        settings: An instance of ``Settings``; None takes the defaults.

    Attributes:
        batch_divisor: What the batch of every job begun from now on is divided by.
        is_stopping: Whether no further job is to be begun.
    """

    Settings: ClassVar[type[ExecutorSettings]] = ExecutorSettings
    most_workers: ClassVar[int | None] = None  # None: as many as one likes
    runs_here: ClassVar[bool] = False  # its worker lives in this process, see :attr:`worker`
    is_on_this_machine: ClassVar[bool] = True  # whose memory and devices its workers take
    lends: ClassVar[bool] = False  # a slot of several can be given to work in this process

    def __init__(
        self,
        make_worker: MakeWorker,
        n_workers: int = 1,
        trial_timeout: float | None = None,
        settings: Any = None,
    ) -> None:
        self.settings: Any = self.Settings() if settings is None else settings
        self.make_worker = make_worker
        self.n_workers = n_workers
        self.trial_timeout = trial_timeout
        self.batch_divisor = 1
        self.is_stopping = False
        self._has_loaded = False  # some worker was built in time
        self._start()

    def _start(self) -> None:  # noqa: B027  # most keep something, not all
        """Sets up what it keeps of jobs and workers; none is begun yet."""

    @classmethod
    def obstacles(cls, genome: Genome, settings: Any) -> Iterator[Problem]:
        """What keeps it from running the trials of a genome, each at its key of `execution:`.

        Args:
            genome: What is to be searched.
            settings: An instance of ``Settings``.
        """
        execution = genome.execution
        if cls.most_workers is not None and execution.workers > cls.most_workers:
            yield Problem(
                f"{execution.executor} runs {counted(cls.most_workers, 'trial')} at once, got "
                f"{counted(execution.workers, 'worker')}",
                "executor",
                f"Use execution.workers: {cls.most_workers}, or leave execution.executor out.",
            )

    @property
    @abstractmethod
    def free(self) -> int:
        """Jobs that can be submitted now."""

    @property
    def worker(self) -> Worker:
        """Who runs the jobs, where it ``runs_here``: its model is free between them.

        Raises:
            RuntimeError: its workers live elsewhere.
            RunError: it cannot be built.
        """
        raise RuntimeError(f"the workers of {type(self).__name__} live in processes of their own")

    def lend(self) -> str | None:
        """Has a slot less from now on: work in this process takes its place.

        Returns:
            The device of the slot, as this process names it; None: the one that all are on.

        Raises:
            RuntimeError: it never ``lends``, or no slot is free.
        """
        raise RuntimeError(f"{type(self).__name__} has no slot to lend")

    def take_back(self) -> None:  # noqa: B027  # most never lend one
        """Has the slot again; what worked in its place holds nothing any more."""

    def submit(self, job: Job) -> TrialStarted | JobGivenUp:
        """Begins a job in a free slot, unless its search is over.

        Raises:
            RuntimeError: no slot is free.
        """
        if not self.free:
            raise RuntimeError("a job was submitted while no slot was free")
        if job.is_over:
            return JobGivenUp(job)
        self._begin(job)
        return TrialStarted(job.candidate)

    def settle(self) -> None:  # noqa: B027  # only processes that have just begun need it
        """Has the jobs that were submitted go on by themselves, while nobody calls :meth:`next`."""

    @abstractmethod
    def _begin(self, job: Job) -> None:
        """Puts a job into a free slot."""

    @abstractmethod
    def next(self) -> Iterator[ExecutorEvent]:
        """What happens until at least one job is over, in any order; nothing where none is out.

        Once the search of a job is over, the job is given up wherever it is.

        Raises:
            RunError: what failed would fail every job: no worker can be built, a file is gone.
        """

    def run(self, jobs: Iterable[Job]) -> Iterator[ExecutorEvent]:
        """Has jobs done, each begun when a slot is free.

        After :meth:`stop` no further job is begun; those begun are finished.

        Raises:
            RunError: see :meth:`next`.
        """
        waiting, n_out = deque(jobs), 0
        while n_out or (waiting and not self.is_stopping):
            while waiting and self.free and not self.is_stopping:
                event = self.submit(waiting.popleft())
                n_out += isinstance(event, TrialStarted)
                yield event
            for each in self.next() if n_out else ():
                n_out -= isinstance(each, (JobFinished, JobGivenUp))
                yield each

    def stop(self) -> None:
        """No further job is to be begun."""
        self.is_stopping = True

    def forget_workers(self) -> None:  # noqa: B027  # workers elsewhere are ended, not interrupted
        """Builds workers anew that were interrupted at any place; their state is not known."""

    def close(self) -> None:  # noqa: B027  # most executors hold nothing
        """Ends workers and frees what they hold."""

    def heard(self, job: Job, message: Message) -> Iterator[ExecutorEvent]:
        """What a worker elsewhere said of its job, as an event; its slot is freed before.

        Raises:
            EvomergeError: what failed would fail every job.
        """
        if isinstance(message, str):
            self._has_loaded = True
            if message != LOADING:
                yield StageStarted(job.candidate.trial_id, message)
        elif isinstance(message, SearchTimeoutError):
            yield JobGivenUp(job)
        elif isinstance(message, EvomergeError):
            raise message
        elif message is not None:
            yield finished(job, message)

    def deadline(self, job: Job) -> Deadline:
        """By when a job that begins now has to be done."""
        return Deadline(self.trial_timeout, search_end=job.search_end)

    def ended(self, job: Job, stage: str, deadline: Deadline) -> JobFinished | JobGivenUp:
        """What becomes of a job that did not end by itself: a failure, or it is given up.

        Raises:
            RunError: no worker could ever be built in time.
        """
        if self.trial_timeout is None or deadline.moment == job.search_end:
            return JobGivenUp(job)
        if stage == LOADING and not self._has_loaded:
            copying = ", with the first copies of models," if self.settings.copies_in else ""
            raise RunError(
                f"no worker was ready after {self.trial_timeout:g} seconds",
                where="execution.trial_timeout",
                fix=f"Allow more: starting a worker{copying} has the same limit as a trial.",
            )
        limit = f"took longer than {self.trial_timeout:g} seconds and did not end by itself"
        spent = {stage.partition(" ")[0]: deadline.clock() - deadline.began}
        return JobFinished(job, Outcome(TrialState.FAILED, None, f"{stage}: {limit}", spent))


def built(make_worker: MakeWorker) -> Worker:
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


def answers(
    worker: Callable[[], Worker], job: Job, batch_divisor: int, trial_timeout: float | None
) -> Iterator[Message]:
    """What a worker says of a job where it lives: that it is loaded, its stages, what came of it.

    Args:
        worker: Gives it; builds it for the first job.
        job: What to try.
        batch_divisor: What its batch is divided by.
        trial_timeout: Seconds it may take, None for no limit.
    """
    try:
        steps_of = worker().run
        yield LOADING
        deadline = Deadline(trial_timeout, search_end=job.search_end)
        steps = steps_of(job.candidate, job.split, batch_divisor, deadline)
        while True:
            yield next(steps)
    except StopIteration as ended:
        yield ended.value
    except EvomergeError as error:
        yield error

"""Several trials at once on a Ray cluster, each worker an actor; replaced with its process or node.

Workers only merge and score; what they find goes back to this process, which keeps the ledger on
its own disk. A worker whose process dies takes one of the two tries of its trial, as a process of
this machine does; a node that is lost, or a worker that never began, takes none.

Sources are files that all nodes see, mapped into memory by each worker and shared by those of one
machine. Nothing but recipes and results passes through Ray.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, ClassVar

from evomerge.executors.base import (
    LOADING,
    Executor,
    ExecutorEvent,
    ExecutorSettings,
    Job,
    JobGivenUp,
    MakeWorker,
    Message,
    answers,
    built,
    tried_again,
)
from evomerge.executors.ray_room import shortfall
from evomerge.executors.ray_session import RaySession
from evomerge.executors.ray_settings import RaySettings
from evomerge.foundations.alarm import GRACE
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import Problem, RunError, why
from evomerge.foundations.versions import scoring_versions
from evomerge.genome.schema import Genome
from evomerge.nouns.evaluation import Outcome, TrialState
from evomerge.nouns.events import Notice

_LOOK = 1.0  # seconds between two looks at deadlines and at the cluster
_PATIENCE = 5.0  # seconds until it is told that workers wait for others
_TELLS_EVERY = 300.0  # seconds, while they go on waiting
_MOST_LOST = 10  # workers in a row that a trial may lose through no fault of its own


class TrialActor:
    """Lives on a node: builds a worker with its first job.

    Args:
        make_worker: Builds it.
        folder: Where the controller runs: relative paths are meant from there.
        versions: Of what scores stand on, where the controller runs.

    Raises:
        RunError: the node lacks the folder, or has other versions.
    """

    def __init__(
        self, make_worker: MakeWorker, folder: str | None, versions: Mapping[str, str]
    ) -> None:
        own = scoring_versions()
        others = [name for name, version in versions.items() if own.get(name) != version]
        if others:
            there, here = (
                ", ".join(f"{name} {known.get(name)}" for name in others)
                for known in (own, versions)
            )
            raise RunError(
                f"node {os.uname().nodename} has {there}, the controller has {here}",
                where="execution.executor",
                fix="Install the same on every node: scores would not be of one kind.",
            )
        if folder is not None:
            try:
                os.chdir(folder)
            except OSError as error:
                raise RunError(
                    f"{folder} is not on node {os.uname().nodename} ({why(error)})",
                    where="execution.executor",
                    fix="Run in a folder that all nodes share, or give runtime_env a working_dir.",
                ) from error
        self._worker = cache(partial(built, make_worker))

    def attempt(
        self, job: Job, batch_divisor: int, trial_timeout: float | None, left: float | None
    ) -> Iterator[Message | str]:
        """Where it is, by Ray's id of the node, then what its worker says of a job.

        Args:
            job: What to try.
            batch_divisor: What its batch is divided by.
            trial_timeout: Seconds it may take, None for no limit.
            left: Seconds of the search; the clocks of two machines have different beginnings.
        """
        import ray

        yield ray.get_runtime_context().get_node_id()
        end = None if left is None else time.monotonic() + left
        job = replace(job, search_end=end)
        yield from answers(self._worker, job, batch_divisor, trial_timeout)


@dataclass(eq=False)
class _Seat:
    """One actor, and the job it has in hand.

    Attributes:
        actor: Ray's handle.
        job: None while it is idle.
        node: Where it is; empty until it has begun there.
        stage: Of the job.
        deadline: By when the worker has to be loaded, then the job to be done.
        stream: What it says of the job.
    """

    actor: Any
    job: Job | None = None
    node: str = ""
    stage: str = LOADING
    deadline: Deadline = field(default_factory=Deadline)
    stream: Any = None


class RayCluster(Executor):
    """Runs up to ``n_workers`` jobs at once; the worker factory must be picklable."""

    Settings: ClassVar[type[ExecutorSettings]] = RaySettings
    is_on_this_machine: ClassVar[bool] = False

    def _start(self) -> None:
        self.session = RaySession(self.settings)
        self._seats: list[_Seat] = []
        self._waiting: deque[Job] = deque()  # for a seat: theirs was lost
        self._has_killed: set[tuple[int, str]] = set()  # trial and split that ended a worker
        self._n_lost: Counter[tuple[int, str]] = Counter()
        self._told = -math.inf  # when it was, that workers wait for others

    @classmethod
    def obstacles(cls, genome: Genome, settings: Any) -> Iterator[Problem]:
        """See :meth:`Executor.obstacles`."""
        yield from super().obstacles(genome, settings)
        if find_spec("ray") is None:
            what = "ray is not installed"
            yield Problem(what, "executor", "Run `pip install 'evomerge[ray]'`.")
        given = genome.evaluation.device
        if given not in ("auto", settings.device):
            yield Problem(
                f"each worker has {settings.num_gpus:g} GPUs and scores on {settings.device}, got "
                f"evaluation.device: {given}",
                "num_gpus",
                "Leave evaluation.device out, and ask for GPUs here.",
            )

    @property
    def free(self) -> int:
        """See :meth:`Executor.free`."""
        return self.n_workers - len(self._busy()) - len(self._waiting)

    def _busy(self) -> list[_Seat]:
        return [seat for seat in self._seats if seat.job is not None]

    def _begin(self, job: Job) -> None:
        self.session.open(self.n_workers)
        self._waiting.append(job)
        self._place()

    def _place(self) -> None:
        """Gives waiting jobs to idle actors, and to new ones where there are too few."""
        while self._waiting:
            idle = next((seat for seat in self._seats if seat.job is None), None)
            if idle is None and len(self._seats) >= self.n_workers:
                return
            if idle is None:
                idle = _Seat(self.session.actor(TrialActor, self.make_worker))
                self._seats.append(idle)
            self._give(idle, self._waiting.popleft())

    def _give(self, seat: _Seat, job: Job) -> None:
        left = None if job.search_end is None else job.search_end - time.monotonic()
        seat.job, seat.stage, seat.node = job, LOADING, ""
        seat.deadline = Deadline(search_end=job.search_end)  # until it is there
        seat.stream = seat.actor.attempt.options(num_returns="streaming").remote(
            replace(job, search_end=None), self.batch_divisor, self.trial_timeout, left
        )

    def next(self) -> Iterator[ExecutorEvent]:
        """See :meth:`Executor.next`."""
        n_out = self.n_workers - self.free
        while n_out and self.n_workers - self.free == n_out:
            self._place()
            busy = {seat.stream: seat for seat in self._busy()}
            for stream in self.session.ready(list(busy), _LOOK):
                yield from self._heard(busy[stream])
            yield from self._end_overdue()
            self.session.refuse_lost_head()
            yield from self._who_is_waited_for()
            self._make_room()

    def _heard(self, seat: _Seat) -> Iterator[ExecutorEvent]:
        job = seat.job
        if job is None:
            raise RuntimeError("a worker without a job spoke")
        message, death = self.session.message(seat.stream)
        if death is not None:
            message = self._after_death(seat, job, death)
            if message is None:
                how = f"the worker process ended ({self.session.why_it_died(death)})"
                yield tried_again(job, how)
                return
        elif isinstance(message, str) and not seat.node:
            seat.node = message
            seat.deadline = Deadline(self.trial_timeout, search_end=job.search_end)
            return
        if isinstance(message, str):
            seat.stage = message
            if message == LOADING:  # which is over: the job begins now
                seat.deadline = Deadline(self.trial_timeout, search_end=job.search_end)
        else:
            seat.job = None
        yield from self.heard(job, message)

    def _after_death(self, seat: _Seat, job: Job, death: Exception) -> Outcome | None:
        """Has a job done by another actor; what came of it where it has had its tries."""
        self._bury(seat)
        key = (job.candidate.trial_id, job.split)
        if not seat.node or self.session.is_of_node(death, seat.node):
            self._n_lost[key] += 1
            if self._n_lost[key] >= _MOST_LOST:
                raise RunError(
                    f"{_MOST_LOST} workers in a row were lost before one was done, the last: "
                    f"{self.session.why_it_died(death)}",
                    where="execution",
                    fix="Look at the cluster with `ray status`; the same command continues.",
                )
        elif key in self._has_killed or self.is_stopping:
            return Outcome(
                TrialState.FAILED,
                failure=f"the worker process ended ({self.session.why_it_died(death)})",
            )
        else:
            self._has_killed.add(key)
        self._waiting.append(job)
        return None

    def _bury(self, seat: _Seat) -> None:
        self._seats.remove(seat)
        seat.job = None
        self.session.kill(seat.actor)

    def _end_overdue(self) -> Iterator[ExecutorEvent]:
        """Ends workers that were to be done by now, and jobs that nobody asks for any more."""
        for late in [job for job in self._waiting if job.is_over]:
            self._waiting.remove(late)
            yield JobGivenUp(late)
        for seat in self._busy():
            job = seat.job
            if job is None or seat.deadline.missed(by=GRACE) is None:
                continue
            if self.session.ready([seat.stream], 0):
                continue
            self._bury(seat)
            yield self.ended(job, seat.stage, seat.deadline)

    def _who_is_waited_for(self) -> Iterator[Notice]:
        """Tells of what other jobs hold; it is waited for as long as the search may take."""
        now = time.monotonic()
        unplaced = [seat.deadline.began for seat in self._busy() if not seat.node]
        if not unplaced:
            return
        if now - min(unplaced) < _PATIENCE or now - self._told < _TELLS_EVERY:
            return
        held = self.session.queue(len(unplaced))
        if held:
            self._told = now
            yield Notice(f"waiting for room on the cluster: {held}")

    def _make_room(self) -> None:
        """Takes jobs back from actors for which the cluster has no room any more.

        Raises:
            RunError: nobody is at work, and nobody could be.
        """
        unplaced = [seat for seat in self._busy() if not seat.node]
        late = [s for s in unplaced if time.monotonic() - s.deadline.began > self.settings.wait]
        if not late:
            return
        lacking = shortfall(self.session.nodes(), self.settings.resources, 1)
        if len(unplaced) == len(self._busy()) and lacking:
            raise RunError(
                f"no worker can be placed: {lacking}",
                where="execution",
                fix="Start nodes, or ask for less; the same command continues.",
            )
        for seat in late if any(seat.job is None for seat in self._seats) else ():
            job = seat.job
            self._bury(seat)
            if job is not None:
                self._waiting.append(job)

    def close(self) -> None:
        """Ends all actors, and the cluster where it is this run's own."""
        for seat in self._seats:
            self.session.kill(seat.actor)
        self._seats.clear()
        self._waiting.clear()
        self.session.close()

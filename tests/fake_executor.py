"""A worker and an executor that score recipes by a formula; importable by spawned processes."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evomerge.executors.base import ExecutorEvent, Job, JobFinished, JobGivenUp
from evomerge.executors.serial import Serial
from evomerge.executors.worker import Worker
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import LostFileError, TrialTimeoutError
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey, Outcome, Sample, TrialState
from evomerge.nouns.trial import Candidate
from evomerge.recipe.plain import Recipe

TARGET = {"org/model_0": 0.7, "org/model_1": 0.3, "org/model_2": 0.1}


def scores_of(recipe: Recipe) -> tuple[float, float]:
    """Two scores, best at different weights; a model alone has the weight 1."""
    models = [entry for entry in recipe.config["models"] if isinstance(entry["model"], str)]
    default = 1.0 if len(models) == 1 else 0.0
    weights = {
        entry["model"]: entry.get("parameters", {}).get("weight", default) for entry in models
    }
    far = sum((weights.get(model, 0.0) - w) ** 2 for model, w in TARGET.items())
    return 1.0 - far, 1.0 - sum(weight**2 for weight in weights.values())


class FormulaWorker:
    """Stands in for a worker: no model, no merge.

    Recipes with ``"fails"`` give a failed outcome, ``"dies"`` ends the process, ``"dies_once"``
    does where a file is missing, ``"lost"`` finds a file gone. ``"hangs"`` names a stage that
    never ends, ``"how"`` in which way; ``"works"`` one that looks at its deadline for ever.
    """

    def run(
        self,
        candidate: Candidate,
        split: str,
        batch_divisor: int,
        deadline: Deadline | None = None,
    ) -> Generator[str, None, Outcome]:
        try:
            return (yield from self._run(candidate, batch_divisor, deadline))
        except TrialTimeoutError as error:
            return Outcome(TrialState.FAILED, failure=str(error))

    def _run(
        self, candidate: Candidate, batch_divisor: int, deadline: Deadline | None
    ) -> Generator[str, None, Outcome]:
        yield "merge"
        config = candidate.recipe.config
        if config.get("dies"):
            os._exit(3)
        mark = Path(config.get("dies_once", "."))
        if not mark.exists():
            mark.touch()
            os._exit(3)
        if config.get("fails"):
            return Outcome(TrialState.FAILED, failure="merge: ValueError: on purpose")
        self._hang("merge", config, deadline)
        if config.get("lost"):
            raise LostFileError("is gone", where="model.safetensors", fix="Put it back.")
        yield "evaluate"
        self._hang("evaluate", config, deadline)
        values = zip(("near", "small"), scores_of(candidate.recipe), strict=True)
        metrics = tuple(Metric(MetricKey(t, "acc"), v, 0.01, 10, True) for t, v in values)
        evaluation = Evaluation(metrics)
        return Outcome(TrialState.COMPLETE, evaluation, "", {"merge": 0.0}, batch_divisor)

    def _hang(self, stage: str, config: Mapping[str, Any], deadline: Deadline | None) -> None:
        while config.get("works") == stage and deadline is not None:
            deadline.check()  # for ever, but for the deadline
        if config.get("hangs") == stage:
            WAYS_TO_HANG[config.get("how", "sleeps")]()


def _sleeps() -> None:
    signal.pause()


def _loops() -> None:
    while True:
        pass


def _reads() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.recv(1)


def _swallows() -> None:
    """Takes the first exception for its own, and is done: a score would come of it."""
    with suppress(BaseException):
        signal.pause()


def _swallows_for_long() -> None:
    for _ in range(3):
        _swallows()


def _swallows_for_ever() -> None:
    while True:
        _swallows()


FOR_EVER = "swallows for ever"  # only the end of its process ends it
WAYS_TO_HANG = {
    "sleeps": _sleeps,
    "loops": _loops,
    "reads": _reads,
    "swallows": _swallows,
    "swallows for long": _swallows_for_long,
    FOR_EVER: _swallows_for_ever,
}


def formula_worker() -> FormulaWorker:
    return FormulaWorker()


def hangs_loaded() -> FormulaWorker:
    """Tells that it is there, then never comes back."""
    worker = FormulaWorker()
    worker.run = _hanging  # type: ignore[method-assign,assignment]
    return worker


def _hanging(*_: Any) -> Generator[str, None, Outcome]:
    yield "merge"
    signal.pause()
    raise AssertionError


def forgets_its_parent() -> FormulaWorker:
    """The same, and the system is told not to end it with its controller."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
    return hangs_loaded()


def broken_worker() -> FormulaWorker:
    raise RuntimeError("no such device")


class Exits:
    """Merger and evaluator of a real worker; its metric ends the program, as it thinks."""

    def merge(self, *_: Any) -> Any:
        return None

    def evaluate(self, *_: Any) -> Any:
        sys.exit(0)


def exiting_worker() -> Worker:
    return Worker(Exits(), {"tasks": Exits()})  # type: ignore[arg-type,dict-item]  # as far as used


def exits_as_it_loads() -> Worker:
    sys.exit(0)


class Recording(Serial):
    """Runs the formula in this process, one job of those that are out, and remembers what it ran.

    Attributes:
        fails: Ids of trials that fail.
        choose: Which of so many jobs that are out is the next to be over.
    """

    def __init__(
        self,
        fails: Sequence[int] = (),
        n_workers: int = 1,
        choose: Callable[[int], int] = lambda n_out: 0,
    ) -> None:
        super().__init__(formula_worker, n_workers)
        self.jobs: list[tuple[int, str]] = []
        self.digests: list[str] = []
        self.is_closed = False
        self.fails = set(fails)
        self.choose = choose
        self.cuts: set[int] = set()  # ids of trials that run when the time is over
        self.short_of_memory = -1  # id of the trial that needs half the batch
        self.samples: tuple[Sample, ...] = ()
        self._out: list[Job] = []

    @property
    def free(self) -> int:
        return self.n_workers - len(self._out)

    def _begin(self, job: Job) -> None:
        self.jobs.append((job.candidate.trial_id, job.split))
        self.digests.append(job.candidate.recipe.digest)
        self._out.append(job)

    def next(self) -> Iterator[ExecutorEvent]:
        if not self._out:
            return
        job = self._out.pop(self.choose(len(self._out)))
        if job.search_end is not None and job.candidate.trial_id in self.cuts:
            yield JobGivenUp(job)
            return
        for event in self._tried(job):
            is_over = isinstance(event, JobFinished)
            yield JobFinished(job, self._changed(job, event.outcome)) if is_over else event

    def _changed(self, job: Job, outcome: Outcome) -> Outcome:
        if job.candidate.trial_id in self.fails:
            return Outcome(TrialState.FAILED, failure="evaluate: on purpose")
        if job.candidate.trial_id == self.short_of_memory:
            outcome = replace(outcome, batch_divisor=2 * outcome.batch_divisor)
        if self.samples and outcome.evaluation is not None:
            outcome = replace(outcome, evaluation=replace(outcome.evaluation, samples=self.samples))
        return outcome

    def close(self) -> None:
        self.is_closed = True


@dataclass(frozen=True)
class SlowToLoad:
    """A worker factory that never comes back while a file is there."""

    path: str

    def __call__(self) -> FormulaWorker:
        while Path(self.path).exists():
            signal.pause()
        return FormulaWorker()


class SlowToArrive(SlowToLoad):
    """The same, in a process that has not yet begun to listen."""

    def __setstate__(self, state: dict[str, str]) -> None:
        vars(self).update(state)
        self()


@dataclass(frozen=True)
class Noting:
    """A worker factory whose workers write down the digest of each recipe before they score it.

    Their processes are in a file beside it, ``.pids``.
    """

    path: str

    def __call__(self) -> FormulaWorker:
        with open(f"{self.path}.pids", "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        return _NotingWorker(self.path)


class _NotingWorker(FormulaWorker):
    def __init__(self, path: str) -> None:
        self._path = path

    def _run(
        self, candidate: Candidate, batch_divisor: int, deadline: Deadline | None
    ) -> Generator[str, None, Outcome]:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{candidate.recipe.digest}\n")
        return (yield from super()._run(candidate, batch_divisor, deadline))


@dataclass(frozen=True)
class Pid:
    """A worker factory that writes down the process it was called in."""

    path: str

    def __call__(self) -> FormulaWorker:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        return FormulaWorker()


@dataclass(frozen=True)
class Hosting:
    """A worker factory that starts programs as judges do, and writes down their process ids."""

    path: str

    def __call__(self) -> FormulaWorker:
        sleep = ["sleep", "1000"]
        programs = [
            subprocess.Popen(sleep),
            subprocess.Popen(sleep, env={}),
            subprocess.Popen(sleep, start_new_session=True),
        ]
        pids = [os.getpid(), *(program.pid for program in programs)]
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(f"{pid} {os.getpgid(pid)}\n" for pid in pids))
        return FormulaWorker()


@dataclass(frozen=True)
class Seeing:
    """A worker factory that writes down which GPUs its process sees, as it is built."""

    path: str

    def __call__(self) -> FormulaWorker:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'all')}\n")
        return FormulaWorker()

"""How long slots stand empty where trials take unequally long; time is a number here."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evomerge.compiler.trained_worker import WorkerBeside
from evomerge.executors.base import ExecutorEvent, Job
from evomerge.foundations.alarm import OverdueError
from evomerge.foundations.errors import RunError
from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.events import RunFinished, TrialFinished, TrialStarted
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.chain import Chain, Link
from evomerge.optimizers.gradient.lessons import name_of, to_bytes
from evomerge.optimizers.islands import Islands
from evomerge.optimizers.search_context import Lesson, SearchContext
from evomerge.run.limits import seconds_spent
from evomerge.run.stream import IdleTime
from tests.fake_executor import Recording
from tests.optimizers.toy_trainer import ToyTrainer
from tests.test_search import N_BASELINES, final, search

ROOT = Path(__file__).parents[1]
BUDGET = 100
SLOW = ("gp",)  # to ask
OVERLAPPING = sorted(name for name in OPTIMIZERS if OPTIMIZERS[name].asks_any_time)


class Timed(Recording):
    """Trials take as long as a function of their ids says; the one that ends first is over first.

    Attributes:
        now: What the clock shows.
    """

    def __init__(self, seconds: Callable[[int], float], n_workers: int = 2) -> None:
        super().__init__((), n_workers)
        self.now = 0.0
        self._seconds = seconds
        self._ends: dict[int, float] = {}

    def _begin(self, job: Job) -> None:
        super()._begin(job)
        trial_id = job.candidate.trial_id
        self._ends[trial_id] = self.now + self._seconds(trial_id)

    def next(self) -> Iterator[ExecutorEvent]:
        if self._out:
            ends = [self._ends[job.candidate.trial_id] for job in self._out]
            self.choose = lambda n_out: int(np.argmin(ends))
            self.now = max(self.now, min(ends))  # whoever trained heard of nothing meanwhile
        yield from super().next()

    def _changed(self, job: Job, outcome: Outcome) -> Outcome:
        seconds = {"evaluate": self._seconds(job.candidate.trial_id)}
        return replace(super()._changed(job, outcome), seconds=seconds)


def uneven(trial_id: int) -> float:
    """From 1 to 4 seconds."""
    return random.Random(trial_id).uniform(1.0, 4.0)


def timed_run(path, optimizer, executor, **settings):
    population = settings.pop("population", max(OPTIMIZERS[optimizer].min_population_size, 1))
    run = search(path, optimizer=optimizer, population=population, executor=executor, **settings)
    run._stream.idle = IdleTime(lambda: executor.now)
    return run


def idle_share(run):
    """Of the time of all slots, as the summary of a run counts it."""
    trials = run.ledger.trials.values()
    idle = sum(trial.idle for trial in trials)
    return idle / (idle + sum(sum(trial.outcome.seconds.values()) for trial in trials))


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in OVERLAPPING],
)
def test_two_slots_are_idle_for_less_than_a_twentieth_of_the_time(tmp_path, optimizer):
    population = 8 if OPTIMIZERS[optimizer].min_population_size > 1 else 1
    run = timed_run(tmp_path, optimizer, Timed(uneven), population=population, budget=BUDGET)
    *_, last = run.run()
    assert last == RunFinished("budget", N_BASELINES + BUDGET)
    assert 0 < idle_share(run) < 0.05


@pytest.mark.parametrize("is_ahead", [True, False])
def test_who_asks_slowly_is_asked_before_a_slot_is_free(tmp_path, is_ahead):
    executor, n_out = Timed(uneven), []
    run = timed_run(tmp_path, "random", executor, budget=BUDGET)
    optimizer = run.proposer.optimizer
    optimizer.asks_ahead, ask = is_ahead, optimizer.ask

    def slowly():
        n_out.append(len(run.proposer._out))
        executor.now += 0.5
        return ask()

    optimizer.ask = slowly
    assert [*run.run()][-1] == RunFinished("budget", N_BASELINES + BUDGET)
    assert max(n_out) == (2 if is_ahead else 1)
    assert (idle_share(run) < 0.05) == is_ahead


def test_who_fits_a_model_in_every_ask_is_asked_ahead():
    assert [name for name in OPTIMIZERS if OPTIMIZERS[name].asks_ahead] == ["gp"]


def test_who_waits_for_its_generation_is_idle_for_longer(tmp_path):
    """What the clock of these tests can tell."""
    run = timed_run(tmp_path, "llm", Timed(uneven), population=4, budget=BUDGET)
    list(run.run())
    assert idle_share(run) > 0.1


@pytest.mark.parametrize("optimizer", ["cma_es", "swarm", "nsga2", "niches"])
def test_a_trial_that_takes_twenty_times_as_long_holds_up_nobody(tmp_path, optimizer):
    slow = N_BASELINES + 2
    executor = Timed(lambda trial_id: 20.0 if trial_id == slow else 1.0)
    run = timed_run(tmp_path, optimizer, executor, population=4, budget=40)
    n_out = {}
    for event in run.run():
        if isinstance(event, TrialStarted):
            n_out[event.candidate.trial_id] = executor.now
    begun_beside = [i for i, at in n_out.items() if n_out[slow] < at < n_out[slow] + 20.0]
    assert len(begun_beside) == 19  # one after the other in the other slot
    assert idle_share(run) < 0.05


@pytest.mark.parametrize("workers", [2, 5])
def test_the_splits_that_follow_the_search_use_all_slots(tmp_path, workers):
    executor = Timed(lambda trial_id: 1.0, workers)
    run = timed_run(tmp_path, "cma_es", executor, population=4, finals=final("worst"))
    begun = 0.0
    for event in run.run():
        if isinstance(event, TrialStarted) and len(run.ledger.trials) < N_BASELINES + 12:
            begun = executor.now
    n_finals = sum(split != "tasks" for _, split in executor.jobs)
    assert n_finals >= 2
    assert executor.now - begun - 1.0 <= 2 * -(-n_finals // workers)


class Lending(Timed):
    """Trials of a second; an epoch of five in the place of one slot."""

    EPOCH = 5.0
    fails_at: int | None = None

    def __init__(self, n_workers, breaks=False):
        super().__init__(lambda trial_id: 1.0, n_workers)
        self.is_lent, self.trainer, self.breaks = False, ToyTrainer(), breaks
        self.free_at_finals = []

    def __call__(self, settings):
        """As a trainer's context."""
        if not self.is_lent:
            assert self.free, "as an executor that is to lend a slot"
            self.is_lent, self.n_workers = True, self.n_workers - 1
        return self

    def epoch(self, index, *arguments):
        self.now += self.EPOCH
        if self.breaks:
            raise OverdueError
        if index == self.fails_at:
            raise RunError("no memory")
        return self.trainer.epoch(index, *arguments)

    def end(self):
        if self.is_lent:
            self.is_lent, self.n_workers = False, self.n_workers + 1

    def _begin(self, job):
        if job.split != "tasks":
            self.free_at_finals.append(self.n_workers)
        super()._begin(job)


class InNewProcesses(Lending):
    """Each trial begins when somebody hears that its process has."""

    def __init__(self, n_workers):
        super().__init__(n_workers)
        self.unheard = []

    def _begin(self, job):
        super()._begin(job)
        self.unheard.append(job.candidate.trial_id)

    def settle(self):
        self._ends |= {one: self.now + self._seconds(one) for one in self.unheard}
        self.unheard.clear()

    def next(self):
        self.settle()
        yield from super().next()


def trained_run(path, executor, **settings):
    run = timed_run(path, "gradient", executor, finals=final("worst"), **settings)
    context = run.proposer.optimizer.context
    run.proposer.optimizer.context = replace(context, trainer=executor, end_training=executor.end)
    return run


def link(name, budget, *, is_optional=False):
    def make(space, context):
        return OPTIMIZERS[name](space, seed=0, context=context)

    return Link(name, OPTIMIZERS[name], make, budget, is_optional)


N_EPOCHS = 3


@pytest.mark.parametrize("kind", [Lending, InNewProcesses])
@pytest.mark.parametrize("workers", [2, 4])
def test_an_epoch_is_trained_while_the_one_before_is_scored(tmp_path, workers, kind):
    executor = kind(workers)
    run = trained_run(tmp_path, executor, budget=N_EPOCHS)
    began = {}
    for event in run.run():
        if isinstance(event, TrialStarted) and event.candidate.origin.is_taught:
            began.setdefault(event.candidate.trial_id, executor.now)
    searched = [t for i, t in sorted(run.ledger.trials.items()) if t.candidate.origin.is_taught]
    assert len(searched) == N_EPOCHS
    # Each is scored from when it is trained, one epoch after the other without a break.
    start = min(began.values())
    assert [*began.values()] == [start + number * Lending.EPOCH for number in range(N_EPOCHS)]
    waiting = workers - 1
    assert searched[0].idle >= waiting * Lending.EPOCH
    n_finals = len(executor.free_at_finals)
    assert seconds_spent(run.ledger, 1) == executor.now - -(-n_finals // workers)
    first = (run.ledger.folder.path / "ledger.jsonl").read_bytes()
    assert b'"asked"' in first
    again = trained_run(tmp_path, kind(workers), budget=N_EPOCHS, resume=True)
    list(again.run())
    assert (run.ledger.folder.path / "ledger.jsonl").read_bytes() == first


def test_training_that_fails_while_an_epoch_is_scored_leaves_its_trials_to_the_next(tmp_path):
    executor = Lending(2)
    executor.fails_at = 1

    def run_of(resume):
        run = timed_run(tmp_path, "gradient", executor, budget=6, resume=resume)
        kept = run.proposer.optimizer.context.artifacts
        context = SearchContext(artifacts=kept, trainer=executor, end_training=executor.end)
        links = [link("gradient", 3, is_optional=True), link("random", 3)]
        run.proposer.optimizer = Chain(links, run.merge_space.space, seed=0, context=context)
        return run

    run = run_of(resume=False)
    *_, last = run.run()
    assert last == RunFinished("budget", N_BASELINES + 6)
    searched = [t.candidate for i, t in sorted(run.ledger.trials.items()) if i >= N_BASELINES]
    n_trained = sum(candidate.origin.link == 0 for candidate in searched)
    assert [candidate.origin.is_taught for candidate in searched].count(True) == 1
    assert all(candidate.origin.link == 1 for candidate in searched[n_trained:])
    first = (tmp_path / "ledger.jsonl").read_bytes()
    list(run_of(resume=True).run())
    assert (tmp_path / "ledger.jsonl").read_bytes() == first


@pytest.mark.parametrize("has_misplaced", [False, True])
def test_an_island_that_asks_ahead_lets_one_that_trains_wait_for_a_free_slot(
    tmp_path, has_misplaced
):
    executor = Lending(2)
    run = timed_run(tmp_path, "gradient", executor, budget=9)
    context = SearchContext(trainer=executor, end_training=executor.end)
    links = [link("random", 3), link("qmc", 3), link("gradient", 3)]  # two take both slots
    space = run.merge_space.space
    islands = Islands(links, space, migrate_every=9, seed=0, context=context)
    islands.asks_ahead = True
    if has_misplaced:  # an epoch that goes on from none of this run: it is trained anew
        kept = to_bytes(Lesson(space.initial, b"", {}, after=9))
        context.artifacts.keep(f"{islands._folder_of(2)}/{name_of(1)}", kept)
    run.proposer.optimizer = islands
    *_, last = run.run()
    assert last == RunFinished("budget", N_BASELINES + 9)
    taught = [trial.candidate.origin.is_taught for trial in run.ledger.trials.values()]
    assert taught.count(True) == 3


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"budget": N_EPOCHS}, "budget"),
        ({"budget": 50, "patience": 1}, "patience"),
        ({"budget": 50, "breaks": True, "timeout": 1000.0}, "timeout"),
    ],
)
def test_finals_have_all_slots_however_the_training_ended(tmp_path, settings, reason):
    executor = Lending(2, settings.pop("breaks", False))
    *_, last = trained_run(tmp_path, executor, **settings).run()
    assert last.reason == reason
    assert set(executor.free_at_finals) == {2}


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_time_that_was_spent_is_that_of_the_workers_who_spent_it(tmp_path, workers):
    executor = Timed(lambda trial_id: 100.0)
    run = timed_run(tmp_path, "random", executor, budget=21)
    list(run.run())
    assert executor.now == 100.0 * (-(-N_BASELINES // 2) + 11)
    assert seconds_spent(run.ledger, workers) == executor.now


class Broken(Lending):
    """Lends a slot, in which no worker can be built."""

    def lend(self):
        self.n_workers -= 1
        return None

    def take_back(self):
        self.n_workers += 1


def test_a_slot_in_which_no_worker_can_be_built_is_given_back():
    executor = Broken(2)

    def make(device):
        raise RunError("no such device")

    worker = WorkerBeside(executor, make)
    for _ in range(2):
        with pytest.raises(RunError):
            worker()
        assert executor.n_workers == 1
    for _ in range(2):
        worker.end()
        assert executor.n_workers == 2


def test_what_the_optimizer_needs_is_imported_while_the_baselines_run(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "cmaes", raising=False)
    executor = Timed(uneven)
    for event in timed_run(tmp_path, "cma_es", executor, population=4).run():
        if isinstance(event, TrialFinished):
            break
        assert "cmaes" not in sys.modules or len(executor.jobs) == 2
    assert "cmaes" in sys.modules


@pytest.mark.slow  # a process that has not imported torch
def test_what_fits_the_first_gaussian_process_is_imported_while_the_baselines_run():
    code = """
import sys
from tests.test_idle_share import Timed, timed_run, uneven
from evomerge.nouns.events import TrialFinished
from pathlib import Path
import tempfile
with tempfile.TemporaryDirectory() as folder:
    run = timed_run(Path(folder) / "run", "gp", Timed(uneven), budget=8)
    events = run.run()
    next(event for event in events if isinstance(event, TrialFinished))
    fits = [name for name in sys.modules if name == "torch" or name.endswith("._gp.gp")]
    assert len(fits) == 2, fits
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

"""Limits of time in runs with real models and tasks: what hangs is ended, and the run goes on."""

from __future__ import annotations

import signal
import time

import pytest

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from evomerge.nouns.events import FinalScored, RunFinished, TrialFinished, TrialStarted
from evomerge.training.descent import Descent
from tests.end_to_end.conftest import GENOME
from tests.end_to_end.dying import with_hooks

LIMIT = 10
BUSY = 60.0  # seconds by which a busy machine may overshoot; what has no limit never ends
CMA = "{name: cma_es, budget: 6, population_size: 4}"
GRADIENT = "{name: gradient, epochs: 6, batch_size: 1, budget: 6}"


@pytest.fixture
def begin(workplace, monkeypatch):
    """Sets up a run whose tasks stop where ``tasks/hang`` says."""
    with_hooks(workplace)
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def set_up(*overrides, hang=""):
        genome, source = load_genome(workplace / "genome.yml", overrides)
        folder = workplace / "out"
        run = search_for(compile_genome(genome, source, Permissions(), folder), folder)
        if hang:  # not before: one document of every task is scored before a run, without a limit
            (workplace / "tasks" / "hang").write_text(f"once, {hang}")
        return run

    return set_up


def within_limits(overshoot):
    print(f"overshot by {overshoot:.2f} s")  # shown by -rP
    assert overshoot < BUSY


N_BASELINES = 4


def with_limit(run):
    """The events of a run; its workers have the limit from their third trial to what failed.

    On a busy machine a worker takes long to start.
    """
    n_finished = 0
    for event in run.run():
        yield event
        n_finished += isinstance(event, TrialFinished)
        if n_finished == 2 and isinstance(event, TrialFinished):
            run.executor.trial_timeout = LIMIT
        has_failed = isinstance(event, TrialFinished) and event.outcome.failure
        if has_failed or (isinstance(event, FinalScored) and not event.scores):
            run.executor.trial_timeout = None


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("hang", ["search 3", "validation 0", "holdout 0"])
def test_a_metric_that_never_ends_costs_its_trial_the_limit_and_no_more(begin, hang, workers):
    split = hang.partition(" ")[0]
    run = begin("optimizer.budget=4", f"execution.workers={workers}", hang=hang)
    events = list(with_limit(run))
    assert events[-1] == RunFinished("budget", N_BASELINES + 4)
    recorded = [t.outcome for t in run.ledger.trials.values()]
    finals = [outcome for (of, _), outcome in run.ledger.finals.items() if of == split]
    (failed,) = [o for o in (recorded if split == "search" else finals) if o.failure]
    assert "did not end by itself" in failed.failure
    within_limits(failed.seconds["evaluate"] - LIMIT)
    scored = [event.scores for event in events if isinstance(event, FinalScored)]
    assert sum(not scores for scores in scored) == (split != "search")


def when_the_search_was_over(run, events):
    """Seconds from the end of the time of a search to the first thing that came after it."""
    for event in events:
        is_final = isinstance(event, TrialStarted) and run.ledger.ended
        if is_final or isinstance(event, FinalScored):
            return time.monotonic() - run._deadline.search_end
    raise AssertionError("nothing came after the search")


def soon_over(run):
    """The events of a run whose time is over a little after its baselines."""
    for event in run.run():
        yield event
        if isinstance(event, TrialFinished) and event.candidate.trial_id == N_BASELINES - 1:
            run._deadline = Deadline(search_end=time.monotonic() + LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_ends_with_its_time_though_a_trial_hangs(begin, workers):
    overrides = ["optimizer.timeout=1000", "optimizer.budget=300", f"execution.workers={workers}"]
    run = begin(*overrides, hang="search 5")
    events = soon_over(run)
    overshoot = when_the_search_was_over(run, events)
    *_, last = events
    assert last == RunFinished("timeout", len(run.ledger.trials))
    assert N_BASELINES <= len(run.ledger.trials) < N_BASELINES + 300
    within_limits(overshoot)
    again = begin(*overrides)
    replayed = list(again.run())
    assert replayed[-1] == last
    assert all(e.was_recorded for e in replayed if isinstance(e, TrialFinished))


@pytest.mark.slow
def test_an_epoch_of_training_ends_with_the_time_of_the_search(begin, workplace, monkeypatch):
    (workplace / "genome.yml").write_text(GENOME.replace(CMA, GRADIENT))
    step, n_steps = Descent.step, [0]

    def stuck(self, *arguments):
        n_steps[0] += 1
        if n_steps[0] == 20:  # in the second epoch
            signal.pause()
        return step(self, *arguments)

    monkeypatch.setattr(Descent, "step", stuck)
    run = begin("optimizer.timeout=15")
    events = run.run()
    within_limits(when_the_search_was_over(run, events))
    *_, last = events
    assert last == RunFinished("timeout", 5)

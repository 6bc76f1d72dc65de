"""A process for each trial: what a trial leaves behind is gone before the next one."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from evomerge.executors import EXECUTORS
from evomerge.executors.base import LOADING, JobFinished
from evomerge.executors.isolated import Isolated
from evomerge.executors.process_settings import ProcessSettings
from evomerge.nouns.evaluation import Outcome, TrialState
from tests.contract.test_executors import job, outcomes
from tests.fake_executor import FormulaWorker, Hosting, Seeing, formula_worker
from tests.test_lifetime import comes, is_gone

LEFT: list[int] = []  # by trials, in the process that they ran in


class Leaking(FormulaWorker):
    """Leaves something in its process, and fails where somebody else did."""

    def _run(self, candidate, batch_divisor, deadline):
        LEFT.append(candidate.trial_id)
        if len(LEFT) > 1:
            yield "merge"
            return Outcome(TrialState.FAILED, failure="merge: something was left")
        return (yield from super()._run(candidate, batch_divisor, deadline))


class Staying(FormulaWorker):
    """Leaves a thread that keeps its process from ending."""

    def _run(self, candidate, batch_divisor, deadline):
        threading.Thread(target=threading.Event().wait).start()
        return (yield from super()._run(candidate, batch_divisor, deadline))


def children():
    """The processes of this one, other tests' too."""
    return {one.pid for one in multiprocessing.active_children()}


@pytest.fixture
def isolated():
    made = []

    def build(make_worker, n_workers=1, **more):
        made.append(Isolated(make_worker, n_workers, **more))
        return made[-1]

    yield build
    for executor in made:
        executor.close()


@pytest.mark.parametrize("name", ["isolated", pytest.param("processes", marks=pytest.mark.slow)])
def test_what_a_trial_leaves_in_its_process_never_reaches_the_next(name):
    executor = EXECUTORS[name](Leaking, 1)
    try:
        found = outcomes(executor, [job(0), job(1)])
    finally:
        executor.close()
    expected = TrialState.COMPLETE if name == "isolated" else TrialState.FAILED
    assert [found[n].state for n in (0, 1)] == [TrialState.COMPLETE, expected]


def test_a_process_is_gone_with_all_it_started_before_its_trial_is_over(isolated, tmp_path):
    before, executor = children(), isolated(Hosting(str(tmp_path / "pids")))
    for event in executor.run([job(0), job(1)]):
        if isinstance(event, JobFinished):
            assert event.outcome.state is TrialState.COMPLETE
            assert children() <= before
            assert executor.free == 1
    pids = [int(line.split()[0]) for line in (tmp_path / "pids").read_text().splitlines()]
    assert len({*pids}) == 8  # two workers, and three programs of each
    assert comes(lambda: all(map(is_gone, pids)))


def test_one_that_does_not_leave_by_itself_is_killed(isolated, monkeypatch):
    monkeypatch.setattr("evomerge.executors.isolated.SECONDS_TO_LEAVE", 0.1)
    before, found = children(), outcomes(isolated(Staying), [job(0)])
    assert found[0].state is TrialState.COMPLETE
    assert children() <= before


def test_a_new_process_that_nobody_heard_for_long_has_its_time_for_the_job(isolated):
    executor = isolated(formula_worker, trial_timeout=60.0)
    executor.submit(job(0))
    (slot,) = executor._slots
    assert slot.connection.poll(60)
    object.__setattr__(slot.deadline, "began", slot.deadline.began - 3600)  # an epoch was trained
    (event,) = [event for event in executor.next() if isinstance(event, JobFinished)]
    assert event.outcome.state is TrialState.COMPLETE


def test_a_job_goes_on_in_a_new_process_while_nobody_listens(isolated):
    executor = isolated(formula_worker)
    executor.submit(job(0))
    executor.settle()
    (slot,) = executor._slots
    assert slot.connection.poll(60)
    assert slot.hear(None) == LOADING


@pytest.mark.slow
def test_limits_of_time_and_deaths_are_those_of_processes(isolated, tmp_path):
    # The start of its process counts too: whoever shall not be late has much time.
    found = outcomes(isolated(formula_worker, trial_timeout=15.0), [job(0, hangs="evaluate")])
    assert found[0].failure.startswith("evaluate: took longer than 15 seconds")
    jobs = [job(1, dies=True), job(2, dies_once=str(tmp_path / "died")), job(3)]
    found = outcomes(isolated(formula_worker, 2, trial_timeout=120.0), jobs)
    assert "exit code 3" in found[1].failure
    assert [found[n].state for n in (2, 3)] == [TrialState.COMPLETE] * 2


@pytest.mark.slow
def test_each_process_sees_the_devices_of_its_slot(isolated, monkeypatch, tmp_path):
    monkeypatch.setattr("evomerge.executors.processes.visible_gpus", lambda: ("4", "5"))
    executor = isolated(Seeing(str(tmp_path / "seen")), 2, settings=ProcessSettings(devices="auto"))
    outcomes(executor, [job(n) for n in range(4)])
    seen = (tmp_path / "seen").read_text().split()
    assert len(seen) == 4
    assert {*seen} == {"4", "5"}

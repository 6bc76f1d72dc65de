"""What every executor must show."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import time
from contextlib import ExitStack
from functools import cache

import pytest

from evomerge.executors import EXECUTORS
from evomerge.executors.base import LOADING, Job, JobFinished, JobGivenUp
from evomerge.executors.slot import Slot
from evomerge.foundations.errors import LostFileError, RunError
from evomerge.nouns.evaluation import TrialState
from evomerge.nouns.events import Notice, StageStarted, TrialStarted
from evomerge.nouns.trial import Candidate
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.old_origins import origin_in
from tests.backwards import with_backwards
from tests.contract.executor_cases import CASES
from tests.fake_executor import (
    Pid,
    broken_worker,
    exiting_worker,
    exits_as_it_loads,
    formula_worker,
    scores_of,
)


@pytest.fixture(scope="module")
def grounds():
    """Has what an executor needs be there until all its tests are over."""
    with ExitStack() as until_then:
        yield cache(lambda name: until_then.enter_context(CASES[name].ground()))


@pytest.fixture(  # sorted: xdist sees one order
    params=[
        pytest.param(name, marks=CASES[name].marks) for name in sorted([*EXECUTORS, "backwards"])
    ]
)
def make(request, grounds):
    made = []
    grounds(request.param)

    def build(make_worker=formula_worker, n_workers=2):
        kind = EXECUTORS[request.param]
        settings = kind.Settings(**CASES[request.param].settings)
        made.append(kind(make_worker, n_workers, settings=settings))
        return made[-1]

    build.keeps_workers = CASES[request.param].keeps_workers
    with with_backwards():
        yield build
    for executor in made:
        executor.close()


def job(trial_id, split="tasks", **facts):
    models = [{"model": "org/model_0", "parameters": {"weight": trial_id / 10}}]
    return Job(
        Candidate(trial_id, origin_in("optimizer"), Recipe({"models": models, **facts})), split
    )


def outcomes(executor, jobs):
    return {
        e.job.candidate.trial_id: e.outcome
        for e in executor.run(jobs)
        if isinstance(e, JobFinished)
    }


def test_each_job_has_the_outcome_of_its_own_candidate(make):
    jobs = [job(index) for index in range(5)]
    found = outcomes(make(), jobs)
    assert sorted(found) == [0, 1, 2, 3, 4]
    for one in jobs:
        metrics = found[one.candidate.trial_id].evaluation.metrics
        assert tuple(metric.value for metric in metrics) == scores_of(one.candidate.recipe)


def is_over(event):
    return isinstance(event, (JobFinished, JobGivenUp))


def test_jobs_are_submitted_while_a_slot_is_free_and_one_that_is_over_makes_room(make):
    executor, ids = make(n_workers=2), iter(range(5))
    done = []
    for trial_id in ids:
        n_free = executor.free
        assert executor.submit(job(trial_id)) == TrialStarted(job(trial_id).candidate)
        assert executor.free == n_free - 1
        if not executor.free:
            with pytest.raises(RuntimeError, match="while no slot was free"):
                executor.submit(job(9))
            over = [event for event in executor.next() if is_over(event)]
            assert over
            assert executor.free == len(over)
            done += over
    while over := [event for event in executor.next() if is_over(event)]:
        done += over
    assert sorted(event.job.candidate.trial_id for event in done) == [0, 1, 2, 3, 4]
    assert list(executor.next()) == []


def test_a_job_whose_search_is_over_is_not_begun(make, tmp_path):
    executor = make(Pid(str(tmp_path / "pids")))
    late = Job(job(0).candidate, search_end=time.monotonic() - 1)
    assert executor.submit(late) == JobGivenUp(late)
    assert list(executor.next()) == []
    assert not (tmp_path / "pids").exists()


def test_a_job_starts_goes_through_its_stages_and_finishes(make):
    events = list(make().run([job(3)]))
    assert [type(event) for event in events] == [
        TrialStarted,
        StageStarted,
        StageStarted,
        JobFinished,
    ]
    assert [e.stage for e in events if isinstance(e, StageStarted)] == ["merge", "evaluate"]
    assert {e.trial_id for e in events if isinstance(e, StageStarted)} == {3}


def test_one_bad_candidate_gives_one_failed_outcome_and_leaves_the_others_good(make):
    jobs = [job(0), job(1, fails=True), job(2), job(3)]
    found = outcomes(make(n_workers=1), jobs)
    assert [found[index].state for index in range(4)] == [
        TrialState.COMPLETE,
        TrialState.FAILED,
        TrialState.COMPLETE,
        TrialState.COMPLETE,
    ]
    assert "on purpose" in found[1].failure


def test_a_metric_that_calls_exit_has_failed_its_trial_alone(make):
    found = outcomes(make(exiting_worker, n_workers=1), [job(0), job(1)])
    assert [found[n].failure for n in (0, 1)] == ["evaluate: SystemExit: 0"] * 2


def test_an_executor_runs_again_with_the_workers_it_has_or_others(make, tmp_path):
    executor = make(Pid(str(tmp_path / "pids")), n_workers=2)
    assert sorted(outcomes(executor, [job(0), job(1), job(2)])) == [0, 1, 2]
    assert sorted(outcomes(executor, [job(1, "holdout")])) == [1]
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) <= executor.n_workers if make.keeps_workers else len(set(pids)) == 4


def test_a_lost_file_ends_the_run(make):
    with pytest.raises(LostFileError, match=r"model.safetensors: is gone. Put it back"):
        outcomes(make(n_workers=1), [job(0), job(1, lost=True), job(2)])


def test_every_job_is_told_how_its_batch_is_divided(make):
    executor = make(n_workers=1)
    assert outcomes(executor, [job(0)])[0].batch_divisor == 1
    executor.batch_divisor = 4
    assert {o.batch_divisor for o in outcomes(executor, [job(1), job(2)]).values()} == {4}


def test_after_stop_what_runs_is_finished_and_nothing_more_begins(make):
    executor = make(n_workers=2)  # a slot is free all the same
    begun, done = [], []
    for event in executor.run([job(index) for index in range(4)]):
        if isinstance(event, TrialStarted):
            begun.append(event.candidate.trial_id)
            executor.stop()
        if isinstance(event, JobFinished):
            done.append(event.job.candidate.trial_id)
    assert begun == done == [0]


def test_one_that_runs_here_has_a_worker_for_others_and_the_rest_say_so(make):
    executor = make(n_workers=1)
    if executor.runs_here:
        assert executor.worker is executor.worker
        first = executor.worker
        executor.forget_workers()
        assert executor.worker is not first
    else:
        with pytest.raises(RuntimeError, match="live in processes of their own"):
            _ = executor.worker


def test_no_jobs_are_no_events(make):
    assert list(make().run([])) == []


def test_nothing_runs_on_after_close(make):
    executor = make()
    outcomes(executor, [job(0), job(1)])
    executor.close()
    assert multiprocessing.active_children() == []
    executor.close()


def test_nothing_runs_on_after_a_run_that_was_left_in_the_middle(make):
    executor = make()
    events = executor.run([job(index) for index in range(6)])
    next(events)
    events.close()
    executor.close()
    assert multiprocessing.active_children() == []


@pytest.fixture
def processes():
    executors = []

    def build(make_worker):
        executors.append(EXECUTORS["processes"](make_worker, 2))
        return executors[-1]

    yield build
    for executor in executors:
        executor.close()


def test_processes_work_in_processes_of_their_own(processes, tmp_path):
    outcomes(processes(Pid(str(tmp_path / "pids"))), [job(0), job(1)])
    pids = set((tmp_path / "pids").read_text().split())
    assert pids
    assert str(os.getpid()) not in pids


def test_the_time_of_a_job_begins_when_its_worker_is_loaded_that_of_loading_when_it_is_sent():
    slot = Slot(formula_worker)
    try:
        slot.give(job(0), 1, 1000.0)
        given = slot.deadline
        assert slot.hear(1000.0) is None  # the process listens
        sent = slot.deadline
        assert sent.began > given.began
        assert slot.hear(1000.0) == LOADING
        assert slot.deadline.began > sent.began
    finally:
        slot.kill()


def test_a_process_that_dies_fails_its_job_and_is_replaced(processes):
    jobs = [job(0, dies=True), job(1), job(2), job(3)]
    found = outcomes(processes(formula_worker), jobs)
    assert [n for n in range(4) if found[n].state is TrialState.FAILED] == [0]
    assert "exit code 3" in found[0].failure


def test_a_trial_whose_process_is_killed_once_is_tried_again(processes, tmp_path):
    jobs = [job(0, dies_once=str(tmp_path / "died")), job(1)]
    events = list(processes(formula_worker).run(jobs))
    assert (tmp_path / "died").exists()
    done = [one.outcome.state for one in events if isinstance(one, JobFinished)]
    assert done == [TrialState.COMPLETE] * 2
    (told,) = [one.message for one in events if isinstance(one, Notice)]
    assert re.fullmatch(r"the worker .* exit code \d+; trial 0 \(tasks\) is tried once more", told)


def test_a_process_that_dies_between_runs_is_replaced_and_no_trial_is_to_blame(processes, tmp_path):
    executor = processes(formula_worker)
    outcomes(executor, [job(0)])
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    found = outcomes(executor, [job(1, dies_once=str(tmp_path / "died"))])
    assert (tmp_path / "died").exists()
    assert found[1].state is TrialState.COMPLETE


@pytest.mark.parametrize(
    ("factory", "why"),
    [(broken_worker, "RuntimeError: no such device"), (exits_as_it_loads, "SystemExit: 0")],
)
def test_a_worker_that_cannot_be_built_ends_the_run_and_says_why(make, factory, why):
    with pytest.raises(RunError, match=rf"no worker can be started \({why}\)"):
        outcomes(make(factory), [job(0)])


def test_the_factory_of_a_real_run_can_be_sent_to_a_process():
    from evomerge.executors.worker_factory import WorkerFactory
    from evomerge.genome.task_blocks import EvaluationBlock, Task

    worker_factory = WorkerFactory({"tasks": (Task(name="x"),)}, EvaluationBlock(), (), 0, "cpu", 1)
    assert pickle.loads(pickle.dumps(worker_factory)) == worker_factory

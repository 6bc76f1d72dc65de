"""Every limit of time holds, wherever a trial is and whatever it does there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evomerge.executors import EXECUTORS
from evomerge.executors.base import Job, JobFinished
from evomerge.foundations.alarm import OverdueError, ended_in_time
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import RunError
from evomerge.nouns.evaluation import TrialState
from evomerge.nouns.events import TrialStarted
from evomerge.nouns.trial import Candidate
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.ledger.run_folder import RunFolder
from tests.fake_executor import FOR_EVER, WAYS_TO_HANG, SlowToArrive, SlowToLoad, formula_worker

LIMIT = 0.2  # seconds
# They hold within a second; what is not ended hangs for ever, so a busy machine may be late.
BUSY = 30.0


@pytest.fixture(
    params=["serial", pytest.param("processes", marks=pytest.mark.slow)],
)
def executor(request, tmp_path):
    """One with a worker that is ready; it hangs as it loads where ``tmp_path/slow`` is."""
    made = EXECUTORS[request.param](SlowToLoad(str(tmp_path / "slow")), 1)
    list(made.run([job(0)]))
    yield made
    made.close()


def job(trial_id, split="tasks", search_end=None, **facts):
    models = [{"model": "org/model_0", "parameters": {"weight": trial_id / 10}}]
    candidate = Candidate(trial_id, origin_in("optimizer"), Recipe({"models": models, **facts}))
    return Job(candidate, split, search_end)


def timed(executor, jobs):
    """The outcomes by trial; the limit was not overshot by more than a busy machine may."""
    found, begun = {}, time.monotonic()
    for event in executor.run(jobs):
        if isinstance(event, TrialStarted):
            begun = time.monotonic()
        if isinstance(event, JobFinished):
            found[event.job.candidate.trial_id] = event.outcome
    overshoot = time.monotonic() - begun - LIMIT
    print(f"overshot by {overshoot:.2f} s")  # shown by -rP
    assert overshoot < BUSY
    return found


BY_TRIAL = [
    *[("evaluate", how, "tasks") for how in sorted(WAYS_TO_HANG.keys() - {FOR_EVER})],
    ("merge", "sleeps", "tasks"),
    ("merge", "loops", "holdout"),
    ("evaluate", "sleeps", "validation"),
    ("evaluate", "sleeps", "holdout"),
]


@pytest.mark.parametrize(("stage", "how", "split"), BY_TRIAL)
def test_a_trial_that_hangs_has_failed_and_the_next_one_is_run(executor, stage, how, split):
    executor.trial_timeout = LIMIT
    found = timed(executor, [job(1, split, hangs=stage, how=how)])
    limit = f"took longer than {LIMIT:g} seconds and did not end by itself"
    assert found[1].failure == f"{stage}: {limit}"
    assert found[1].seconds[stage] > LIMIT
    executor.trial_timeout = None
    (*_, last) = executor.run([job(2, split)])
    assert last.outcome.state is TrialState.COMPLETE


@pytest.mark.parametrize("stage", ["merge", "evaluate"])
@pytest.mark.parametrize("how", ["works", "hangs"])
def test_what_runs_when_the_search_is_over_has_no_outcome_and_nothing_more_begins(
    executor, stage, how
):
    end = time.monotonic() + LIMIT
    jobs = [job(1, search_end=end, **{how: stage}), job(2, search_end=end)]
    assert timed(executor, jobs) == {}
    (*_, last) = executor.run([job(3, "validation")])
    assert last.outcome.state is TrialState.COMPLETE


def test_the_limit_of_a_trial_counts_where_it_comes_before_the_end_of_the_search(executor):
    executor.trial_timeout = LIMIT
    jobs = [job(1, search_end=time.monotonic() + 1000, works="merge")]
    found = timed(executor, jobs)
    assert found[1].state is TrialState.FAILED


def reloading(executor, tmp_path):
    """Leaves the executor without a worker; the next one hangs as it loads."""
    (tmp_path / "slow").touch()
    executor.forget_workers()
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


def test_a_worker_that_hangs_as_it_loads_again_fails_its_trial(executor, tmp_path):
    reloading(executor, tmp_path)
    executor.trial_timeout = LIMIT
    found = timed(executor, [job(1)])
    assert found[1].failure.startswith(f"loading: took longer than {LIMIT:g} seconds")
    (tmp_path / "slow").unlink()
    executor.trial_timeout = None
    (*_, last) = executor.run([job(2)])
    assert last.outcome.state is TrialState.COMPLETE


def test_a_worker_that_hangs_as_it_loads_when_the_search_is_over_is_ended(executor, tmp_path):
    reloading(executor, tmp_path)
    jobs = [job(1, search_end=time.monotonic() + LIMIT)]
    assert timed(executor, jobs) == {}


@pytest.mark.parametrize("name", ["serial", pytest.param("processes", marks=pytest.mark.slow)])
def test_where_no_worker_was_ever_loaded_in_time_the_run_ends_and_says_what_to_do(name, tmp_path):
    (tmp_path / "slow").touch()
    executor = EXECUTORS[name](SlowToLoad(str(tmp_path / "slow")), 2, LIMIT)
    with pytest.raises(RunError, match=r"no worker was ready after 0.2 seconds\. Allow more"):
        list(executor.run([job(0), job(1)]))
    executor.close()


LARGE = [n / 7 for n in range(40_000)]  # more bytes than the system keeps for who does not read


def test_a_large_job_waits_for_no_worker_that_hangs_before_it_listens(tmp_path):
    (tmp_path / "slow").touch()
    executor = EXECUTORS["processes"](SlowToArrive(str(tmp_path / "slow")), 1, LIMIT)
    begun = time.monotonic()
    with pytest.raises(RunError, match=r"no worker was ready after 0.2 seconds\. Allow more"):
        list(executor.run([job(0, large=LARGE)]))
    executor.close()
    assert time.monotonic() - begun - LIMIT < BUSY


def test_large_jobs_are_run(executor):
    found = timed(executor, [job(n, large=LARGE) for n in (1, 2)])
    assert {outcome.state for outcome in found.values()} == {TrialState.COMPLETE}


@pytest.mark.slow
def test_in_the_middle_of_a_population_the_fast_are_kept_and_the_slow_are_given_up():
    executor = EXECUTORS["processes"](formula_worker, 2)
    list(executor.run([job(0), job(1)]))
    end = time.monotonic() + LIMIT
    jobs = [job(n, search_end=end, **({"hangs": "merge"} if n % 2 else {})) for n in range(2, 8)]
    found = timed(executor, jobs)
    executor.close()
    assert {2} <= set(found) <= {2, 4, 6}


@pytest.mark.slow
def test_a_worker_process_that_hangs_in_holdout_is_ended_and_replaced():
    executor = EXECUTORS["processes"](formula_worker, 2)
    list(executor.run([job(0), job(1)]))
    executor.trial_timeout = LIMIT
    events = executor.run([job(2, "holdout", hangs="evaluate"), job(3, "holdout")])
    found = {e.job.candidate.trial_id: e.outcome for e in events if isinstance(e, JobFinished)}
    executor.close()
    assert found[2].failure.endswith("did not end by itself")
    assert found[3].state is TrialState.COMPLETE


@pytest.mark.slow
def test_a_worker_process_that_swallows_every_exception_is_ended():
    executor = EXECUTORS["processes"](formula_worker, 1)
    list(executor.run([job(0)]))
    executor.trial_timeout = LIMIT
    found = timed(executor, [job(1, hangs="evaluate", how=FOR_EVER)])
    executor.close()
    assert found[1].failure.endswith("did not end by itself")


SWALLOWS = """
import sys
from pathlib import Path
from evomerge.executors import EXECUTORS
from evomerge.executors.base import JobFinished
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.foundations.scratch import scratch
from evomerge.nouns.trial import Trial
from tests.contract.test_time_limits import FOR_EVER, LIMIT, job
from tests.fake_executor import formula_worker
from tests.test_ledger import HEADER

ledger = Ledger.create(RunFolder(Path("run")), HEADER, "")
jobs = [job(0), job(1, hangs="evaluate", how=FOR_EVER), job(2)]
with scratch(above=Path()):
    print("begun", end="")
    for event in EXECUTORS["serial"](formula_worker, 1, LIMIT).run(jobs):
        if isinstance(event, JobFinished):
            ledger.record_trial(Trial(event.job.candidate, event.outcome))
"""


@pytest.mark.slow
def test_a_serial_run_whose_trial_swallows_every_exception_ends_and_keeps_what_it_has(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", SWALLOWS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stdout == "begun"
    (sentence,) = ended.stderr.splitlines()
    assert sentence.startswith("trial 1: goes on after its time, and swallows whatever would end")
    ledger = Ledger.open(RunFolder(tmp_path / "run"))
    assert set(ledger.trials) == {0}
    ledger.close()


# The alarm itself


def test_work_that_ends_in_time_is_left_alone():
    before = signal.getsignal(signal.SIGVTALRM)
    assert ended_in_time(Deadline(1000.0), lambda: 5) == 5
    assert ended_in_time(Deadline(), lambda: 5) == 5
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert threading.active_count() == 1 or "alarm" not in str(threading.enumerate())


@pytest.mark.parametrize("error", [ValueError("own"), StopIteration(3), KeyboardInterrupt()])
def test_what_the_work_raises_is_raised(error):
    def work():
        raise error

    with pytest.raises(type(error)):
        ended_in_time(Deadline(1000.0), work)


def test_a_task_that_sets_an_alarm_of_its_own_is_no_obstacle():
    def work():
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.alarm(1)
        signal.pause()

    with pytest.raises(OverdueError):
        ended_in_time(Deadline(LIMIT), work)
    signal.alarm(0)


def test_outside_the_main_thread_nothing_can_be_interrupted_and_nothing_breaks():
    found = []
    thread = threading.Thread(target=lambda: found.append(ended_in_time(Deadline(0.0), os.getpid)))
    thread.start()
    thread.join()
    assert found == [os.getpid()]

"""Whatever happens to workers and controllers: no trial is lost or done twice, nobody is left.

On processes of this machine and on a Ray cluster alike.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from contextlib import ExitStack, suppress

import psutil
import pytest

from evomerge.executors.base import JobFinished
from evomerge.nouns.evaluation import TrialState
from evomerge.nouns.events import StageStarted, TrialFinished
from tests.contract.executor_cases import ray_cluster
from tests.contract.test_executors import job
from tests.faulty_runs import (
    BUDGET,
    WAYS,
    crowded_run,
    executor_of,
    gated_run,
    search_of,
    trials_in,
)
from tests.gated_worker import Gate, Gated, after_all_wait, greedy_worker
from tests.killed import PRELOADED, in_process
from tests.test_lifetime import comes
from tests.test_search import N_BASELINES

pytestmark = pytest.mark.slow
N_TRIALS = N_BASELINES + BUDGET
SEARCHED = range(N_BASELINES, N_TRIALS)
EACH_ONCE = Counter(map(str, range(N_TRIALS)))


@pytest.fixture(scope="module")
def addresses():
    """Way -> the address of its cluster, which is there from when it is first asked for."""
    with ExitStack() as until_then:
        known = {"processes": ""}

        def address(way):
            if way not in known:
                until_then.enter_context(ray_cluster())
                import ray

                known[way] = ray.get_runtime_context().gcs_address
            return known[way]

        yield address


@pytest.fixture(params=WAYS)
def way(request):
    if request.param == "ray":
        pytest.importorskip("ray")
    return request.param


@pytest.fixture
def run_of(addresses, way, tmp_path):
    """A search by workers of a factory, closed at the end of the test."""
    made = []

    def build(make_worker, n_workers=2, **more):
        executor = executor_of(way, make_worker, n_workers, addresses(way), **more)
        made.append(executor)
        return search_of(tmp_path / "run", executor)

    yield build
    for executor in made:
        executor.close()


def pid_in(event):
    """The process of a worker that says where it is; of other events none."""
    is_told = isinstance(event, StageStarted) and event.stage.startswith("at ")
    return event.stage.split()[1] if is_told else ""


def living(pids):
    found = []
    for pid in map(int, pids):
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def comes_late(condition):
    """A cluster, or eight processes, take their time on a busy machine."""
    return any(comes(condition) for _ in range(4))


def gone(pids):
    return comes_late(lambda: not [p for p in living(pids) if p.status() != psutil.STATUS_ZOMBIE])


def test_three_of_eight_workers_that_are_killed_lose_no_trial(run_of, tmp_path):
    gate = Gate(tmp_path)
    events = run_of(Gated(str(tmp_path), SEARCHED), 8).run()
    pids = [pid for pid, _ in after_all_wait(events, 8, N_BASELINES).values()]
    assert len({*pids}) == 8
    for pid in pids[:3]:
        os.kill(int(pid), signal.SIGKILL)
    gate.open()
    list(events)
    trials = trials_in(tmp_path / "run")
    assert sorted(line["id"] for line in trials) == list(range(N_TRIALS))
    assert {line["state"] for line in trials} == {"complete"}
    assert gate.done == EACH_ONCE
    assert sum(line.get("idle", 0.0) for line in trials) > 0  # of eight, at the end
    assert gone(pids)


def test_a_trial_that_hangs_or_kills_its_workers_has_failed_alone(run_of, tmp_path):
    faults = {N_BASELINES + 1: {"hangs": "evaluate"}, N_BASELINES + 3: {"killed": True}}
    pids = {*map(pid_in, run_of(Gated(str(tmp_path), (), faults), trial_timeout=15).run())} - {""}
    trials = {line["id"]: line for line in trials_in(tmp_path / "run")}
    assert sorted(trials) == list(range(N_TRIALS))
    failed = {n: line["failure"] for n, line in trials.items() if line["state"] == "failed"}
    hung, killed = failed.pop(N_BASELINES + 1), failed.pop(N_BASELINES + 3)
    assert hung == "evaluate: took longer than 15 seconds and did not end by itself"
    assert killed.startswith("the worker process ended (") or "killed, most often" in killed
    assert not failed
    done = Counter((tmp_path / "done").read_text().split())
    assert done == EACH_ONCE - Counter(map(str, faults))
    assert len(pids) > 2  # one took the place of each that ended
    assert gone(pids)


def test_a_trial_for_which_there_is_no_memory_has_failed_and_its_worker_lives(
    addresses, way, tmp_path
):
    executor = executor_of(way, greedy_worker, 1, addresses(way))
    try:
        done = [e for e in executor.run([job(0), job(1)]) if isinstance(e, JobFinished)]
    finally:
        executor.close()
    assert [event.outcome.state for event in done] == [TrialState.FAILED] * 2
    assert [event.outcome.failure for event in done] == ["merge: MemoryError"] * 2


def test_a_slow_worker_keeps_nobody_waiting(run_of, tmp_path):
    slow, gate = N_BASELINES + 1, Gate(tmp_path)
    finished, pids = [], set()
    for event in run_of(Gated(str(tmp_path), [slow])).run():
        pids |= {pid_in(event)} - {""}
        if isinstance(event, TrialFinished):
            finished.append(event.candidate.trial_id)
            if len(finished) == N_TRIALS - 1:
                gate.open()
    assert finished[-1] == slow
    trials = trials_in(tmp_path / "run")
    assert [line["id"] for line in trials] == finished
    assert gate.done == EACH_ONCE
    assert trials[-1]["idle"] > 0  # of the other worker
    assert len(pids) == 2
    assert gone(pids)


@pytest.mark.parametrize("n_bytes", [3000, 6000])
def test_a_full_disk_under_the_ledger_loses_nothing_and_leaves_nobody(
    addresses, way, tmp_path, n_bytes
):
    folder, noted = tmp_path / "run", tmp_path / "noted"
    place = (folder, way, addresses(way), noted)
    assert in_process(crowded_run, *place, n_bytes) == 0
    assert "cannot be written (File too large). Make room" in (tmp_path / "said").read_text()
    before = {line["id"]: line["digest"] for line in trials_in(folder)}
    assert len(before) < N_TRIALS
    pids = noted.with_suffix(".pids").read_text().split()
    assert pids
    assert gone(pids)
    noted.unlink(missing_ok=True)
    assert in_process(crowded_run, *place, 1 << 30) == 0
    assert sorted(line["id"] for line in trials_in(folder)) == list(range(N_TRIALS))
    again = noted.read_text().split()
    assert not {*before.values()} & {*again}
    assert len(again) == len({*again}) == N_TRIALS - len(before)


def test_a_controller_that_is_killed_takes_its_workers_along_and_comes_back(
    addresses, way, tmp_path
):
    """The new one begins while the old one's workers may still be there."""
    gate, folder = Gate(tmp_path), tmp_path / "run"
    arguments = (folder, way, addresses(way), Gated(str(tmp_path), SEARCHED), 2)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    first, second = (context.Process(target=gated_run, args=arguments) for _ in range(2))
    first.start()
    assert comes_late((tmp_path / "pids").exists)
    old = (tmp_path / "pids").read_text().split()
    (tmp_path / "pids").unlink()
    os.kill(first.pid, signal.SIGKILL)
    second.start()
    assert comes_late((tmp_path / "pids").exists)
    new = (tmp_path / "pids").read_text().split()
    assert gone(old)
    assert not {*old} & {*new}
    gate.open()
    second.join()
    assert second.exitcode == 0
    trials = trials_in(folder)
    assert sorted(line["id"] for line in trials) == list(range(N_TRIALS))
    assert gate.done == EACH_ONCE
    assert gone(new)

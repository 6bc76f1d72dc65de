"""Workers and nodes of a Ray cluster that go: nothing is lost, nothing is done twice."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest

from evomerge.executors.base import JobFinished
from evomerge.executors.ray_cluster import RayCluster
from evomerge.executors.ray_settings import RaySettings
from evomerge.foundations.errors import RunError
from evomerge.foundations.versions import scoring_versions
from evomerge.nouns.evaluation import TrialState
from evomerge.nouns.events import Notice
from tests.contract.executor_cases import ROOT
from tests.contract.test_executors import job
from tests.fake_executor import formula_worker
from tests.faulty_runs import BUDGET, search_of, trials_in
from tests.gated_worker import Gate, Gated, after_all_wait
from tests.test_search import N_BASELINES

pytestmark = pytest.mark.slow
FEW_CPUS = 0.1


@pytest.fixture(scope="module")
def head():
    """A cluster whose head holds no worker."""
    utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        yield made
        made.shutdown()


@pytest.fixture
def cluster(head):
    """The head and the nodes that a test adds, which go with it: the next has only its own."""
    yield head
    for node in list(head.worker_nodes):
        head.remove_node(node)


@pytest.fixture
def executor(cluster):
    made = []

    def build(make_worker, n_workers=2, **settings):
        given = {"address": cluster.address, "num_cpus": 1, "wait": 30, **settings}
        made.append(RayCluster(make_worker, n_workers, settings=RaySettings(**given)))
        return made[-1]

    yield build
    for one in made:
        one.close()


def outcomes_of(events):
    return [(e.job.candidate.trial_id, e.outcome) for e in events if isinstance(e, JobFinished)]


def test_a_killed_worker_and_a_lost_node_lose_no_trial_and_do_none_twice(
    cluster, executor, tmp_path
):
    nodes = {n.node_id: n for n in (cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1))}
    cluster.wait_for_nodes()
    gate, died = Gate(tmp_path), tmp_path / "died"
    # A node takes no try: those that lost theirs may still end one process each.
    jobs = [job(0, dies_once=str(died)), *(job(index) for index in range(1, 5))]
    events = executor(Gated(str(tmp_path))).run(jobs)
    places = after_all_wait(events)
    cluster.remove_node(nodes[places[0][1]])
    cluster.add_node(num_cpus=1)
    os.kill(int(places[1][0]), signal.SIGKILL)
    gate.open()
    rest = list(events)
    found = outcomes_of(rest)
    told = [one.message for one in rest if isinstance(one, Notice)]
    assert sum("is tried once more" in one for one in told) >= 3  # two of processes, one of a node
    assert sorted(trial for trial, _ in found) == [0, 1, 2, 3, 4]
    assert {outcome.state for _, outcome in found} == {TrialState.COMPLETE}
    assert gate.done == Counter("01234")
    assert died.exists()


def test_what_has_no_room_is_told_within_seconds(cluster, executor):
    began = time.monotonic()
    with pytest.raises(RunError, match=r"2 workers with 0.1 CPU, 3 GPU each, and \d+ nodes? with"):
        list(executor(formula_worker, num_cpus=FEW_CPUS, num_gpus=3, wait=1).run([job(0)]))
    with pytest.raises(RunError, match=r"nothing answers at '127\.0\.0\.1:9'"):
        list(executor(formula_worker, address="127.0.0.1:9").run([job(0)]))
    assert time.monotonic() - began < 30  # a limit of time is what it holds


HOLDER = """
import sys, ray
ray.init(sys.argv[1], logging_level="ERROR", log_to_driver=False)
@ray.remote(num_cpus=3)
class Holding:
    def there(self):
        return True
one = Holding.remote()
ray.get(one.there.remote())
print("there", flush=True)
sys.stdin.read()
"""


def test_what_another_job_holds_is_waited_for_and_told(cluster, executor):
    cluster.add_node(num_cpus=3)  # the only one with so many
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, cluster.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "there\n"
        events = executor(formula_worker, n_workers=1, num_cpus=3, wait=1).run([job(0), job(1)])
        (told,) = itertools.islice((e.message for e in events if isinstance(e, Notice)), 1)
        assert told.startswith(
            "waiting for room on the cluster: 1 worker with 3 CPU each; free are "
        )
        assert "0 of 3 CPU" in told
        who = r"; held by job [0-9a-f]+ \(1 actor, \S.*, pid (\d+) on [\d.]+\)$"
        assert re.search(who, told)[1] == str(other.pid)
        other.stdin.close()  # and it goes
        found = outcomes_of(events)
        other.wait(60)
        assert [trial for trial, _ in found] == [0, 1]
        assert {outcome.state for _, outcome in found} == {TrialState.COMPLETE}


def test_other_versions_on_the_cluster_are_told_with_both(cluster, executor, monkeypatch):
    real = ray_version()
    monkeypatch.setattr("ray.__version__", "2.41.7")
    with pytest.raises(RunError) as refused:
        list(executor(formula_worker, num_cpus=FEW_CPUS).run([job(0)]))
    python = ".".join(map(str, sys.version_info[:3]))
    assert str(refused.value) == (
        f"execution.address: the cluster at '{cluster.address}' has Ray {real} and Python {python},"
        f" and here are Ray 2.41.7 and Python {python}. Install the same on every node, and start "
        "the cluster and the run with that."
    )


def test_a_node_whose_packages_are_others_scores_nothing(cluster, executor, monkeypatch):
    here = {**scoring_versions(), "transformers": "4.0.1"}
    monkeypatch.setattr("evomerge.executors.ray_session.scoring_versions", lambda: here)
    cluster.add_node(num_cpus=1)
    there = scoring_versions()["transformers"]
    told = rf"node \S+ has transformers {re.escape(there)}, the controller has transformers 4.0.1\."
    with pytest.raises(RunError, match=told):
        list(executor(formula_worker, num_cpus=FEW_CPUS).run([job(0)]))


def ray_version():
    import ray

    return ray.__version__


def test_a_worker_that_ray_ends_for_want_of_memory_is_told_so(tmp_path):
    """Ray looks at what is free on its node, of which it thinks here that there never is any."""
    utils = pytest.importorskip("ray.cluster_utils")
    limits = {"memory_usage_threshold": 0.0, "memory_monitor_refresh_ms": 250}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": limits}
    Gate(tmp_path)  # which nobody opens
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        short = utils.Cluster(initialize_head=True, head_node_args=head)
    one = RayCluster(Gated(str(tmp_path)), settings=RaySettings(address=short.address))
    try:
        told = outcomes_of(one.run([job(0)]))[0][1].failure
    except RunError as error:  # ten of them, none of which came as far as to begin
        told = str(error)
    finally:
        one.close()
        short.shutdown()
    assert re.search(r"Ray ended it as memory ran low on node [\d.]+", told)


def test_a_run_loses_a_node_and_no_trial(cluster, executor, tmp_path):
    nodes = {n.node_id: n for n in (cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1))}
    gate, searched = Gate(tmp_path), range(N_BASELINES, N_BASELINES + BUDGET)
    events = search_of(tmp_path / "run", executor(Gated(str(tmp_path), searched))).run()
    places = list(after_all_wait(events, 2, N_BASELINES).values())
    lost = next((node for _, node in places if node in nodes), None)
    assert lost is not None
    cluster.remove_node(nodes[lost])
    gate.open()
    list(events)
    trials = trials_in(tmp_path / "run")
    assert sorted(line["id"] for line in trials) == list(range(N_BASELINES + BUDGET))
    assert {line["state"] for line in trials} == {"complete"}
    assert gate.done == Counter(str(line["id"]) for line in trials)


def test_nobody_is_left_when_an_executor_is_closed_in_the_middle(cluster, executor, tmp_path):
    cluster.add_node(num_cpus=2)
    Gate(tmp_path)
    one = executor(Gated(str(tmp_path)), num_cpus=FEW_CPUS)
    events = one.run([job(0), job(1)])
    pids = [int(pid) for pid, _ in after_all_wait(events).values()]
    workers = [psutil.Process(pid) for pid in pids]
    events.close()
    one.close()
    assert psutil.wait_procs(workers, timeout=60)[1] == []

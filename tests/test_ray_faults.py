"""Workers and nodes of a Ray cluster that go: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from evomerge.executors.base import JobFinished
from evomerge.executors.ray_cluster import RayCluster
from evomerge.executors.ray_settings import RaySettings
from evomerge.foundations.errors import RunError
from evomerge.nouns.evaluation import TrialState
from evomerge.nouns.events import StageStarted
from tests.contract.executor_cases import ROOT
from tests.contract.test_executors import job
from tests.fake_executor import formula_worker
from tests.gated_worker import Gated

pytestmark = pytest.mark.slow
FEW_CPUS = 0.1


class Gate:
    """Holds all workers until it is opened, for good."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.mkfifo(folder / "gate")

    def open(self) -> None:
        both = os.open(self.folder / "gate", os.O_RDWR)  # which waits for nobody
        os.unlink(self.folder / "gate")
        os.close(os.dup(both))
        os.write(both, b"")
        self._held = both  # who is about to open it finds it open

    @property
    def done(self) -> Counter[str]:
        return Counter((self.folder / "done").read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def cluster():
    """A head that holds no worker, and nodes as tests add them."""
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
def executor(cluster):
    made = []

    def build(make_worker, n_workers=2, **settings):
        given = {"address": cluster.address, "num_cpus": 1, "wait": 30, **settings}
        made.append(RayCluster(make_worker, n_workers, settings=RaySettings(**given)))
        return made[-1]

    yield build
    for one in made:
        one.close()


def after_all_wait(events, n_workers=2):
    """Trial -> its worker's process and node, once all of them wait at the gate."""
    places = {}
    while len(places) < n_workers:
        event = next(events)
        if isinstance(event, StageStarted) and event.stage.startswith("at "):
            places[event.trial_id] = event.stage.split()[1:]
    return places


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
    found = outcomes_of(events)
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

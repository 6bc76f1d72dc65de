"""A run on Ray through the command line: the serial run, and nobody left of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from tests.end_to_end.conftest import ROOT
from tests.end_to_end.dying import with_hooks
from tests.end_to_end.test_workers import TPE, lines
from tests.test_lifetime import comes

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
RAY = ("--set", "execution={executor: ray, address: local, num_cpus: 1}")
TWO = ("--set", "execution={executor: ray, address: local, workers: 2, num_cpus: 0.5}")
MARK = "EVOMERGE_TEST_RAY"
# As `ray start` would have it where the user has a token in his home.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


@pytest.mark.parametrize(
    "optimizer",
    ["{name: random, budget: 6}", "{name: qmc, budget: 6}", "{name: tpe, budget: 6}"],
)
def test_a_run_on_ray_is_the_serial_run_and_says_nothing_more(workplace, evomerge, optimizer):
    settings = ("--set", f"optimizer={optimizer}")
    evomerge("run", "genome.yml", "--run-dir", "here", *settings, OMP_NUM_THREADS="1")
    done = evomerge("run", "genome.yml", "--run-dir", "there", "--json", *settings, *RAY)
    assert lines(workplace / "here") == lines(workplace / "there")
    assert json.loads(done.stdout)
    assert "ray" not in done.stderr.lower()


@pytest.mark.parametrize("name", ["random", "qmc"])
def test_two_workers_on_ray_find_what_one_here_finds(workplace, evomerge, name):
    """Recipes and metrics, trial by trial; which is over first is chance."""
    settings = ("--set", f"optimizer={{name: {name}, budget: 6}}")
    evomerge("run", "genome.yml", "--run-dir", "here", *settings, OMP_NUM_THREADS="1")
    evomerge("run", "genome.yml", "--run-dir", "there", *settings, *TWO)
    here, there = (trials(workplace / place) for place in ("here", "there"))
    assert here == there
    assert len(here) == 10
    assert "workers idle" in evomerge("show", "there").stdout


def trials(folder):
    """Trial -> its recipe and what it was found to be."""
    found = [line for line in lines(folder) if line["kind"] == "trial"]
    assert len({line["id"] for line in found}) == len(found)
    return {
        line["id"]: [line[key] for key in ("digest", "state", "metrics")]
        for line in sorted(found, key=lambda line: line["id"])
    }


def of_run(mark):
    """The processes of a run, by what they have in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:  # gone, or another's
            pass
    return found


def begun(workplace, *settings, **environment):
    """A run in a session of its own, which says what it says to a file; and its mark."""
    mark = f"{workplace} {os.urandom(4).hex()}"
    own = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), MARK: mark, **environment}
    with (workplace / "said.txt").open("w") as said:
        run = subprocess.Popen(
            [sys.executable, "-m", "evomerge", "run", "genome.yml", "--run-dir", "out", *settings],
            cwd=workplace,
            env={**os.environ, **own},
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
    return run, mark


def comes_late(condition):
    return any(comes(condition) for _ in range(4))


def n_trials(workplace):
    ledger = workplace / "out" / "ledger.jsonl"
    return ledger.read_text().count('"kind":"trial"') if ledger.exists() else 0


def test_nobody_is_left_of_a_run_whose_controller_is_killed_and_it_goes_on(workplace, evomerge):
    many = (*TWO, "--set", "optimizer={name: random, budget: 40}")
    run, mark = begun(workplace, *many)
    assert comes_late(lambda: n_trials(workplace) > 5), (workplace / "said.txt").read_text()
    processes = of_run(mark)
    assert any("TrialActor" in "".join(one.cmdline()) for one in processes)
    run.kill()
    run.wait(60)
    before = lines(workplace / "out")
    evomerge("run", "genome.yml", "--run-dir", "out", *many)  # while the old workers may live
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    assert of_run(mark) == []
    assert lines(workplace / "out")[: len(before)] == before
    assert sorted(trials(workplace / "out")) == list(range(44))


def test_ctrl_c_lets_the_running_trials_finish_and_leaves_nobody(workplace, evomerge):
    many = (*TWO, "--set", "optimizer={name: random, budget: 400}")
    run, mark = begun(workplace, *many)
    assert comes_late(lambda: n_trials(workplace) > 5), (workplace / "said.txt").read_text()
    processes, before = of_run(mark), n_trials(workplace)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    assert run.wait(120) == 130
    said = (workplace / "said.txt").read_text()
    assert "stopping when" in said
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    assert before <= len(trials(workplace / "out")) < 404
    assert not re.search("Traceback|SIGINT|Error", said)


@contextmanager
def started_cluster(folder, port="0"):
    """What `ray start --head` starts; the address it says."""
    log = folder / "ray.txt"
    with log.open("w") as out:
        head = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
                *(f"--port={port}", "--num-cpus=2", "--include-dashboard=false"),
                "--disable-usage-stats",
            ],
            env={**os.environ, **TOKEN, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        told = re.compile(r"--address='([\d.]+:\d+)'")
        assert comes_late(lambda: told.search(log.read_text())), log.read_text()
        yield told.search(log.read_text())[1], head.pid
    finally:
        head.terminate()
        head.wait(60)


def test_auto_is_the_cluster_that_was_started_here(workplace, evomerge, tmp_path):
    auto = ("--set", "execution={executor: ray, num_cpus: 1}")
    with started_cluster(tmp_path) as (address, _):
        evomerge("run", "genome.yml", "--run-dir", "here", *TPE, OMP_NUM_THREADS="1")
        evomerge(
            "run", "genome.yml", "--run-dir", "there", *TPE, *auto, RAY_ADDRESS=address, **TOKEN
        )
        assert lines(workplace / "here") == lines(workplace / "there")
        # The cluster is still there for the next one.
        evomerge(
            "run", "genome.yml", "--run-dir", "there", *TPE, *auto, RAY_ADDRESS=address, **TOKEN
        )
    told = evomerge(
        "run", "genome.yml", "--run-dir", "none", *auto, RAY_ADDRESS=address, exit_code=1, **TOKEN
    )
    assert f"execution.address: nothing answers at '{address}'" in told.stderr


def test_a_run_whose_cluster_loses_its_head_says_so_and_goes_on_with_another(
    workplace, evomerge, tmp_path
):
    auto = ("--set", "execution={executor: ray, workers: 2, num_cpus: 1}")
    many = ("--set", "optimizer={name: random, budget: 8}")
    hang = with_hooks(workplace) / "tasks" / "hang"
    hang.write_text("search 3")  # of each worker: none goes further meanwhile
    with started_cluster(tmp_path) as (address, head):
        run, mark = begun(workplace, *auto, *many, RAY_ADDRESS=address, **TOKEN)
        assert comes_late(lambda: n_trials(workplace) >= 2), (workplace / "said.txt").read_text()
        (store,) = [p for p in psutil.Process(head).children() if p.name() == "gcs_server"]
        store.kill()
        sentence = (
            f"execution: the head of the Ray cluster at {address} is gone. Start the cluster again;"
            " the same command continues.\n"
        )
        # Ray itself would end the process after a minute, in words of its own.
        assert comes_late(lambda: sentence in (workplace / "said.txt").read_text())
        assert run.wait(120) == 1
    assert comes_late(lambda: of_run(mark) == [])
    before = trials(workplace / "out")
    assert 2 <= len(before) < 12
    hang.unlink()
    with started_cluster(tmp_path) as (address, _):
        evomerge(
            "run", "genome.yml", "--run-dir", "out", *auto, *many, RAY_ADDRESS=address, **TOKEN
        )
    after = trials(workplace / "out")
    assert sorted(after) == list(range(12))
    assert {i: after[i] for i in before} == before
    assert {state for _, state, _ in after.values()} == {"complete"}


JUDGE = """
def here(model):
    return float("runtime_resources" in __file__)
"""
BROUGHT = {
    "mine:here": {"working_dir": ".", "excludes": ["models", "out", "package"]},
    "package.mine:here": {"py_modules": ["package"]},
}


@pytest.mark.parametrize("function", sorted(BROUGHT))
def test_code_of_the_genome_comes_with_runtime_env(workplace, evomerge, function):
    """What judges is not what lies in the folder of the run, but what Ray made of it."""
    (workplace / "package").mkdir()
    (workplace / "package" / "__init__.py").touch()
    for folder in (workplace, workplace / "package"):
        (folder / "mine.py").write_text(JUDGE)
    models = [str(workplace / "models" / name) for name in ("model_1", "model_2", "base")]
    genome = {
        "genome": {
            "models": models[:2],
            "base_model": models[2],
            "merge_method": "task_arithmetic",
        },
        "tasks": [{"python": {"run": function}}, {"name": "tiny_search", "limit": 4}],
        "task_search_path": ["tasks"],
        "optimizer": {"name": "random", "budget": 2},
        "execution": {
            "executor": "ray",
            "address": "local",
            "num_cpus": 1,
            "runtime_env": BROUGHT[function],
        },
    }
    (workplace / "code.yml").write_text(json.dumps(genome))
    told = evomerge("run", "code.yml", "--run-dir", "out", exit_code=2)
    assert "execution.runtime_env: would bring code to the workers" in told.stderr
    evomerge("run", "code.yml", "--run-dir", "out", "--allow-code")
    for line in (line for line in lines(workplace / "out") if line["kind"] == "trial"):
        assert line["state"] == "complete"
        assert [m["value"] for m in line["metrics"] if "python" in m["task"]] == [1.0]

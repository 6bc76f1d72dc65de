"""Settings of one executor live with it: who reads them, and what is wrong in them is told."""

from __future__ import annotations

import os
import socket

import pytest
import torch

from evomerge.checks.context import CheckContext
from evomerge.checks.given_to_workers import n_sharing
from evomerge.checks.unread_settings import executor
from evomerge.compiler.file_mistakes import genome_of
from evomerge.executors.base import ExecutorSettings
from evomerge.executors.process_settings import ProcessSettings
from evomerge.executors.processes import Processes
from evomerge.executors.ray_connection import _refuse_silent, answers
from evomerge.executors.ray_room import held_now, holders_in, shortfall
from evomerge.executors.ray_settings import RaySettings
from evomerge.executors.slot import _seeing
from evomerge.foundations.errors import GenomeError, RunError
from evomerge.foundations.machine import gpu_variables, visible_gpus
from evomerge.foundations.permissions import Permissions
from evomerge.genome.source import parse_yaml
from tests.contract.test_executors import job
from tests.fake_executor import Seeing

HERE = ("4", "5", "6", "7")  # the GPUs that a run sees, as its environment names them
GENOME = "genome: {models: [a/b, c/d], merge_method: linear}\ntasks: [x]\n"


def genome(execution):
    return genome_of(parse_yaml(f"{GENOME}execution: {execution}\n", "g.yml"))


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ("{executor: ray, num_gpu: 1}", "execution.num_gpu: unknown key 'num_gpu'; did you mean"),
        ("{executor: ray, num_cpus: 0}", "g.yml:3: execution.num_cpus: got 0, expected "),
        ("{executor: ray, num_gpus: 1.5}", "execution.num_gpus: got 1.5, expected a part of one"),
        ("{executor: ray, address: 'ray://head:10001'}", "Start the run on a node of the cluster"),
        ("{executor: serial, address: local}", "execution.address: unknown key 'address'"),
        ("{workers: 2, devices: [0, 0]}", "execution.devices: stand twice: 0; a GPU belongs to"),
        ("{workers: 2, devices_per_worker: 2}", "no devices are given to workers. Add devices"),
        ("{workers: 2, num_gpus: 1}", "execution.num_gpus: unknown key 'num_gpus'"),
    ],
)
def test_what_an_executor_does_not_read_is_told_with_its_line(execution, message):
    with pytest.raises(GenomeError) as refused:
        genome(execution)
    assert message in str(refused.value)


def test_an_executor_has_its_settings():
    execution = genome("{executor: ray, workers: 4, num_gpus: 0.5, memory: 24}").execution
    assert execution.settings == {"num_gpus": 0.5, "memory": 24}


def node(**resources):
    return {"Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "n_workers", "lacking"),
    [
        ([node(CPU=8.0, GPU=4.0)], 4, ""),
        ([node(CPU=8.0, GPU=1.0), node(CPU=8.0, GPU=3.0)], 4, ""),
        ([node(CPU=2.0, GPU=4.0)], 4, "4 workers with 1 CPU, 1 GPU each, and 1 node with 2 CPU"),
        ([node(CPU=64.0), node(GPU=8.0)], 1, "2 nodes with 64 CPU, 0 GPU; 0 CPU, 8 GPU"),
        ([], 1, "0 nodes with nothing"),
    ],
)
def test_workers_fit_on_nodes_and_not_on_their_sum(nodes, n_workers, lacking):
    told = shortfall(nodes, {"CPU": 1, "GPU": 1}, n_workers)
    assert (lacking in told) if lacking else not told


TWO_NODES = [
    {"NodeID": "a", "Resources": {"CPU": 2.0, "memory": 4 * 2.0**30}},
    {"NodeID": "b", "Resources": {"CPU": 8.0, "memory": 4 * 2.0**30}},
]
JOBS = [
    {"JobID": "01", "Entrypoint": "python train.py", "DriverPid": 7, "DriverIPAddress": "10.0.0.7"},
    {"JobID": "02", "Entrypoint": "evomerge run", "DriverPid": 8, "DriverIPAddress": "10.0.0.8"},
]
ACTORS = [
    *({"JobID": "01", "State": state} for state in ("ALIVE", "ALIVE", "DEAD")),
    {"JobID": "02", "State": "ALIVE"},
    {"JobID": "02", "State": "PENDING_CREATION"},
]


def test_what_keeps_workers_waiting_is_told_with_who_holds_it():
    wanted = {"CPU": 2.0, "memory": 2.0**30}
    free = {"a": {"CPU": 1.0, "memory": 4 * 2.0**30}}  # of b nothing is said: nothing is free
    holders = holders_in(ACTORS, JOBS, "02")
    assert held_now(TWO_NODES, free, wanted, 3, holders) == (
        "3 workers with 2 CPU, 1.1 GB memory each; free are 1 of 2 CPU, 4.3 GB of 4.3 GB "
        "memory; 0 of 8 CPU, 0 B of 4.3 GB memory; held by job 01 (2 actors, python train.py, "
        "pid 7 on 10.0.0.7), this run (1 worker)"
    )
    free["b"] = TWO_NODES[1]["Resources"]
    assert not held_now(TWO_NODES, free, wanted, 3, holders)
    assert held_now(TWO_NODES, {}, wanted, 1, []).endswith(
        "held by others, by tasks or placement groups"
    )


def test_a_file_cannot_allow_what_runs_code(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("evomerge.executors.ray_cluster.find_spec", lambda name: name)
    asked = genome("{executor: ray, address: 'head:6379', runtime_env: {pip: [x]}}")
    told = [str(finding.problem) for finding in executor(CheckContext(asked))]
    assert told == [
        "execution.runtime_env: would bring code to the workers, which needs permission. Add "
        "--allow-code if you trust it.",
        "execution.address: got 'head:6379', a cluster that could run code here, which needs "
        "permission. Add --allow-code if you trust it, or name it in RAY_ADDRESS and use address: "
        "auto.",
    ]
    assert not [*executor(CheckContext(asked, Permissions(code=True)))]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert len([*executor(CheckContext(asked))]) == 1
    assert not [*executor(CheckContext(genome("{executor: ray, address: local}")))]


def test_ray_that_is_missing_is_told_with_the_extra(monkeypatch):
    monkeypatch.setattr("evomerge.executors.ray_cluster.find_spec", lambda name: None)
    (finding,) = executor(CheckContext(genome("{executor: ray}")))
    assert str(finding.problem) == (
        "execution.executor: ray is not installed. Run `pip install 'evomerge[ray]'`."
    )


def test_parts_of_a_gpu_add_up():
    assert not shortfall([node(CPU=8.0, GPU=1.0)], {"CPU": 0.1, "GPU": 0.1}, 10)
    assert shortfall([node(CPU=8.0, GPU=1.0)], {"CPU": 0.1, "GPU": 0.1}, 11)
    given = genome("{executor: ray, num_gpus: 0.5, memory: 24}").execution.settings
    assert RaySettings(**given).resources == {"CPU": 1, "GPU": 0.5, "memory": 24 << 30}


def test_devices_alone_make_a_process_of_one_worker():
    assert genome("{devices: [3]}").execution.chosen_executor == "processes"
    assert genome("{workers: 1}").execution.chosen_executor == "serial"


@pytest.mark.parametrize(
    ("settings", "n_workers", "slots"),
    [
        ({}, 2, ()),
        ({"devices": "auto"}, 2, ("4", "5")),
        ({"devices": [2, 0]}, 2, ("6", "4")),
        ({"devices": [0, 1, 2, 3], "devices_per_worker": 2}, 2, ("4,5", "6,7")),
    ],
)
def test_each_worker_has_its_own_devices_of_those_that_the_run_sees(settings, n_workers, slots):
    settings = ProcessSettings(**settings)
    assert list(settings.misfits_of(n_workers, HERE)) == []
    assert settings.slots(n_workers, HERE) == slots


@pytest.mark.parametrize(
    ("settings", "n_workers", "gpus", "told"),
    [
        ({"devices": "auto"}, 2, (), "devices: this machine has no GPU, got 'auto'. Leave it out"),
        ({"devices": [0, 1]}, 2, (), "devices: this machine has no GPU, got [0, 1]"),
        ({"devices": "auto"}, 5, HERE, "5 workers with 1 GPU each take 5, this machine has 4"),
        ({"devices": [0, 9]}, 2, HERE, "devices: got [0, 9], this machine has GPUs 0 to 3"),
        ({"devices": [0, 1, 2, 3]}, 1, HERE, "take 1, got 4 devices. Use execution.workers: 4."),
    ],
)
def test_slots_that_cannot_be_are_told(settings, n_workers, gpus, told):
    (problem,) = ProcessSettings(**settings).misfits_of(n_workers, gpus)
    assert told in str(problem)


@pytest.mark.parametrize(
    ("settings", "jobs", "seen"),
    [
        ({"devices": [0, 1, 2, 3], "devices_per_worker": 2}, [{}, {}], ["4,5", "6,7"]),
        ({"devices": [2]}, [{"dies_once": "died"}], ["6", "6"]),  # and so does who replaces it
    ],
)
def test_a_worker_sees_its_own_devices_from_its_start(monkeypatch, tmp_path, settings, jobs, seen):
    monkeypatch.setattr("evomerge.executors.processes.visible_gpus", lambda: HERE)
    monkeypatch.chdir(tmp_path)
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    executor = Processes(Seeing("seen"), len(jobs), settings=ProcessSettings(**settings))
    try:
        list(executor.run(job(index, **facts) for index, facts in enumerate(jobs)))
    finally:
        executor.close()
    assert sorted((tmp_path / "seen").read_text().split()) == seen
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_a_model_over_several_gpus_is_refused_as_long_as_it_would_use_one(monkeypatch):
    monkeypatch.setattr("evomerge.executors.processes.visible_gpus", lambda: HERE)
    asked = genome("{workers: 2, devices: auto, devices_per_worker: 2}")
    (told,) = [str(finding.problem) for finding in executor(CheckContext(asked))]
    assert told.startswith("execution.devices_per_worker: got 2, but no model is spread over")


def test_a_slot_that_is_lent_has_no_process_and_its_devices_are_nobodys(monkeypatch, tmp_path):
    monkeypatch.setattr("evomerge.executors.processes.visible_gpus", lambda: HERE)
    monkeypatch.chdir(tmp_path)
    executor = Processes(Seeing("seen"), 2, settings=ProcessSettings(devices=[3, 1]))
    try:
        list(executor.run([job(0), job(1)]))
        assert executor.lend() in {"cuda:1", "cuda:3"}
        assert (executor.n_workers, executor.free, len(executor._slots)) == (1, 1, 1)
        executor.submit(job(2))
        with pytest.raises(RuntimeError, match="while none was free"):
            executor.lend()
        list(executor.next())
        executor.take_back()
        list(executor.run([job(3), job(4)]))
        assert {slot.devices for slot in executor._slots} == {"7", "5"}
    finally:
        executor.close()


@pytest.mark.parametrize("is_rocm", [False, True])
def test_gpus_are_named_as_the_library_of_torch_reads_them(monkeypatch, is_rocm):
    monkeypatch.setattr(torch.version, "hip", "6.2" if is_rocm else None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "6,7")
    assert visible_gpus() == (("6", "7") if is_rocm else ("4", "5"))
    with _seeing("5"):
        assert [os.environ[name] for name in gpu_variables()] == ["5"] * (1 + is_rocm)
    assert os.environ["HIP_VISIBLE_DEVICES"] == "6,7"


def test_workers_share_the_cores_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr("evomerge.executors.base.usable_cores", lambda: 16)
    threads = [ExecutorSettings().threads(n) for n in (1, 2, 3, 8, 64)]
    assert threads == [None, 8, 5, 2, 1]


def test_without_gpus_check_refuses_devices_and_a_device_beside_them(monkeypatch):
    monkeypatch.setattr("evomerge.executors.processes.visible_gpus", lambda: ())
    asked = genome("{workers: 2, devices: auto}\nevaluation: {device: 'cuda:1'}")
    context = CheckContext(asked)
    told = [str(finding.problem) for finding in executor(context)]
    assert told == [
        "execution.devices: this machine has no GPU, got 'auto'. Leave it out: workers then share "
        "the cores of this machine.",
        "execution.devices: each worker sees its own devices alone, got evaluation.device: cuda:1. "
        "Leave evaluation.device out.",
    ]
    assert (n_sharing(context.genome), n_sharing(genome("{workers: 2}"))) == (1, 2)


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_whether_a_cluster_answers_is_found_in_one_way(family, host):
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"there is no {host} here")
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    address = f"{shown}:{server.getsockname()[1]}"
    with server:
        _refuse_silent(address)
        assert answers(address)
    for silent in (address, "nowhere", f"{shown}:99999"):
        assert not answers(silent)
        with pytest.raises(RunError, match="nothing answers at"):
            _refuse_silent(silent)

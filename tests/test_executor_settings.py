"""Settings of one executor live with it: who reads them, and what is wrong in them is told."""

from __future__ import annotations

import pytest

from evomerge.compiler.file_mistakes import genome_of
from evomerge.executors.ray_session import shortfall
from evomerge.foundations.errors import GenomeError
from evomerge.genome.source import parse_yaml

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


def test_parts_of_a_gpu_add_up():
    assert not shortfall([node(CPU=8.0, GPU=1.0)], {"CPU": 0.1, "GPU": 0.1}, 10)
    assert shortfall([node(CPU=8.0, GPU=1.0)], {"CPU": 0.1, "GPU": 0.1}, 11)

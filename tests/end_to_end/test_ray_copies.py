"""Nodes of a Ray cluster that have copies of the models on disks of their own."""

from __future__ import annotations

import pytest

from evomerge.models.fingerprint import folder_digest
from tests.end_to_end.conftest import ROOT
from tests.end_to_end.test_ray_runs import trials
from tests.test_node_copies import states

pytestmark = pytest.mark.slow  # a cluster of three nodes
RANDOM = ("--set", "optimizer={name: random, budget: 6}")
COPIES = "copies: $EVOMERGE_TEST_DISK/models"
ON_RAY = ("--set", f"execution={{executor: ray, workers: 2, num_cpus: 1, {COPIES}}}")


@pytest.fixture
def disks(tmp_path):
    """The disks of two nodes with room for a worker each; and the address of their cluster."""
    utils = pytest.importorskip("ray.cluster_utils")
    places = [tmp_path / name for name in ("first disk", "second disk")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        try:
            for place in places:
                cluster.add_node(num_cpus=1, env_vars={"EVOMERGE_TEST_DISK": str(place)})
            cluster.wait_for_nodes()
            yield places, cluster.address
        finally:
            cluster.shutdown()


def test_each_node_reads_copies_of_its_own_and_scores_what_the_models_do(
    workplace, evomerge, disks
):
    places, address = disks
    evomerge("run", "genome.yml", "--run-dir", "here", *RANDOM, OMP_NUM_THREADS="1")
    evomerge("run", "genome.yml", "--run-dir", "there", *RANDOM, *ON_RAY, RAY_ADDRESS=address)
    assert trials(workplace / "here") == trials(workplace / "there")
    models = {folder_digest(workplace / "models" / n) for n in ("base", "model_1", "model_2")}
    first = [states(place) for place in places]
    for place in places:
        copies = [path for path in (place / "models").iterdir() if path.is_dir()]
        assert {folder_digest(path) for path in copies} == models
        assert len(copies) == len(models)
    evomerge("run", "genome.yml", "--run-dir", "again", *RANDOM, *ON_RAY, RAY_ADDRESS=address)
    assert [states(place) for place in places] == first

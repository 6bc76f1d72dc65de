"""Models that are on the Hub: downloaded before the space of a run is compiled."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import close_session, constants, hf_api
from huggingface_hub.errors import HTTPError
from safetensors.torch import load_file, save_file
from transformers.utils import hub as transformers_hub

from evomerge.cli.main import entry_point
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from tests.evaluators.tiny_tasks import write_tasks
from tests.inspection.hub_server import HubServer
from tests.tiny_models import tiny_family

GENOME = """\
genome:
  models: [org/model_1, org/model_2]
  base_model: org/base
  merge_method: task_arithmetic
  granularity: layers
  layer_granularity: 1
tasks: [{name: tiny_choice, limit: 4}]
task_search_path: [tasks]
evaluation: {device: cpu}
optimizer: {name: random, budget: 1}
"""
FROZEN = "model.layers.1."


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Three models on a Hub, of which one layer and the ends were never trained."""
    folder = tmp_path_factory.mktemp("hub")
    base, *tuned = tiny_family(folder / "org")
    held = load_file(base / "model.safetensors")
    for model in tuned:
        own = load_file(model / "model.safetensors")
        frozen = {name: held[name].clone() for name in own if not name.startswith("model.layers.0")}
        save_file({**own, **frozen}, model / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def hub(models, tmp_path, monkeypatch):
    """A running Hub, an empty cache, the network on."""
    server = HubServer(models)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hf_api.api, "endpoint", server.endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(transformers_hub, "_hf_api", None)  # it keeps the first endpoint it sees
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    write_tasks(tmp_path / "tasks")
    close_session()
    yield server
    close_session()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def evomerge(hub, tmp_path, capsys):
    def call(*arguments, genome=GENOME):
        (tmp_path / "g.yml").write_text(genome)
        with pytest.raises(SystemExit) as ended:
            entry_point(arguments)
        return ended.value.code, capsys.readouterr().err

    return call


def n_parameters(run: Path) -> int:
    return len(json.loads((run / "ledger.jsonl").read_text().splitlines()[0])["space"])


@pytest.mark.slow
def test_a_run_downloads_its_models_before_it_decides_what_varies(evomerge, hub, tmp_path):
    code, err = evomerge("check", "g.yml")
    assert code == 0, err
    assert "`evomerge run` downloads them before it begins" in err
    assert not [*tmp_path.glob("cache/*/snapshots/*/*.safetensors")]
    code, err = evomerge("run", "g.yml", "--run-dir", "run")
    assert code == 0, err
    assert "downloading org/model_1" in err
    assert "were not compared" not in err
    assert n_parameters(tmp_path / "run") == 2  # a weight of each model, in the layer that differs
    shutil.rmtree(tmp_path / "cache")
    code, err = evomerge("run", "g.yml", "--run-dir", "run")
    assert code == 0, err  # the space it began with, which needs the files


def test_nothing_is_downloaded_for_a_genome_with_a_mistake(evomerge, hub, tmp_path):
    code, err = evomerge("run", "g.yml", genome=GENOME.replace("limit: 4", "metric: f1"))
    assert code == 2
    assert "has no metric 'f1'" in err
    assert not [*tmp_path.glob("cache/*/snapshots/*/*.safetensors")]


def test_nothing_is_downloaded_for_a_folder_with_the_run_of_another_genome(evomerge, tmp_path):
    header = {
        **{key: {} for key in ("models", "tasks", "versions")},
        **dict.fromkeys(("evomerge", "genome", "genome_digest", "optimizer", "objective"), "0"),
        **dict.fromkeys(("seed", "merge_seed", "threads"), 1),
        "device": "cpu",
        "space": [],
    }
    Ledger.create(RunFolder(tmp_path / "run"), header, GENOME.replace("budget: 1", "budget: 2"))
    code, err = evomerge("run", "g.yml", "--run-dir", "run")
    assert code == 1
    assert "run: the folder holds a run that began with something else" in err
    assert "genome optimizer.budget: was 2, now 1" in err
    assert "downloading" not in err


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (HTTPError("server disconnected"), "server disconnected"),
    ],
)
def test_a_model_that_cannot_be_downloaded_is_told(evomerge, hub, monkeypatch, failure, reason):
    look = huggingface_hub.snapshot_download

    def full(*arguments, **settings):
        if settings.get("local_files_only"):
            return look(*arguments, **settings)
        raise failure

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    code, err = evomerge("run", "g.yml")
    assert code == 2
    assert f"g.yml:2: genome.models[0]: org/model_1 cannot be downloaded ({reason})" in err

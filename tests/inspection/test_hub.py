"""A model has the same facts in a folder, in the Hub's cache, and on the Hub."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi, close_session, constants, snapshot_download
from huggingface_hub.errors import HTTPError
from safetensors.numpy import load_file, save_file

from evomerge.foundations.errors import ModelError
from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts
from evomerge.models.headers import FIRST_READ
from evomerge.models.inspect import read_model
from tests.inspection.hub_server import COMMIT, HubServer
from tests.preflight.variants import adapter, card, variant
from tests.tiny_models import tiny_model

MODEL = "org/tiny"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Hub holds: a model that is larger than what is read of it, and an adapter."""
    folder = tmp_path_factory.mktemp("hub")
    made = tiny_model(folder / "made", intermediate_size=2000)
    variant(made, folder / "org" / "tiny", card(license="mit", base_model="org/base"))
    adapter(folder / "org" / "lora")
    shutil.rmtree(made)
    return folder


@pytest.fixture
def hub(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A running Hub, an empty cache, the network on."""
    server = HubServer(models)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.chdir(tmp_path)
    close_session()
    yield server
    close_session()
    server.shutdown()
    server.server_close()
    thread.join()


def facts(name: str) -> ModelFacts:
    return read_model(ModelName.model_validate(name), "genome.models[0]")


def placeless(model: ModelFacts) -> ModelFacts:
    """The facts that do not depend on where the model is."""
    return replace(model, name="", reference="", folder=None)


def test_folder_cache_and_hub_give_equal_facts(hub, models, monkeypatch):
    in_folder = facts(str(models / MODEL))
    on_hub = facts(MODEL)
    assert on_hub.folder is None
    assert placeless(on_hub) == placeless(in_folder)
    snapshot_download(MODEL, endpoint=hub.endpoint)
    hub.bytes_sent.clear()
    in_cache = facts(MODEL)
    assert hub.bytes_sent == {}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = facts(MODEL)
    assert in_cache == offline
    assert in_cache.folder is not None
    assert placeless(in_cache) == placeless(in_folder)


def test_of_weights_only_the_header_is_fetched(hub, models):
    on_hub = facts(f"{MODEL}@main")
    size = (models / MODEL / "model.safetensors").stat().st_size
    assert on_hub.tensors["model.norm.weight"].shape == (32,)
    assert hub.bytes_sent[f"{MODEL}/model.safetensors"] == FIRST_READ < size / 4


def test_a_header_longer_than_the_first_read_is_fetched_whole(hub, tmp_path):
    folder = hub.folder / "org" / "long"
    shutil.copytree(hub.folder / MODEL, folder)
    held = load_file(folder / "model.safetensors")
    many = {f"model.layers.{i}.{'x' * 60}": np.zeros(1, "f4") for i in range(1500)}
    save_file({**held, **many}, folder / "model.safetensors")
    on_hub = facts("org/long")
    shutil.rmtree(folder)
    assert len(on_hub.tensors) == len(held) + 1500
    assert on_hub.broken == {}


def test_an_adapter_on_the_hub_is_read_too(hub):
    found = facts(f"{MODEL}+org/lora")
    assert found.adapter is not None
    assert found.adapter.config["r"] == 2
    assert len(found.adapter.tensors) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/nothing", "org/nothing is neither a folder nor a model on the Hub that this user"),
        (f"{MODEL}@nowhere", "org/tiny has no revision 'nowhere' on the Hub"),
        ("wrong name", "wrong name is neither a folder nor a name that the Hub could have"),
        (f"{MODEL}+org/nothing", "org/nothing is neither a folder nor a model"),
    ],
)
def test_what_the_hub_does_not_have_is_said_at_the_key(hub, name, message):
    with pytest.raises(ModelError, match=rf"^genome\.models\[0\]: {message}"):
        facts(name)


def test_a_file_is_no_name_on_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text("a page")
    with pytest.raises(ModelError, match=r"README\.md is a file, expected a model's folder"):
        facts("README.md")


def test_a_gated_model_is_told_with_its_page(hub):
    hub.gated.add(MODEL)
    with pytest.raises(ModelError, match=rf"is gated on the Hub.*{hub.endpoint}/{MODEL}"):
        facts(MODEL)


def test_a_hub_that_does_not_answer_is_told(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"cannot be read \(.*Check the network"):
        facts(MODEL)


def test_a_network_that_breaks_while_files_are_read_is_told(hub, monkeypatch):
    def broken(*arguments, **settings):
        raise HTTPError("server disconnected")

    monkeypatch.setattr(HfApi, "hf_hub_download", broken)
    with pytest.raises(ModelError, match=r"the Hub cannot be reached \(server disconnected\)"):
        facts(MODEL)


def test_without_network_only_the_cache_counts(hub, monkeypatch):
    snapshot_download(MODEL, endpoint=hub.endpoint, ignore_patterns=["*.safetensors"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert facts(MODEL).tensors == {}
    with pytest.raises(ModelError, match=r"org/tyni is not in the Hub's cache, .*mean 'org/tiny'"):
        facts("org/tyni")


def test_a_cache_without_weights_is_passed_over(hub):
    path = snapshot_download(MODEL, endpoint=hub.endpoint, ignore_patterns=["*.safetensors"])
    assert Path(path).name == COMMIT
    on_hub = facts(MODEL)
    assert on_hub.folder is None
    assert on_hub.tensors

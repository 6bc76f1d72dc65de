"""A run tells where every tensor of its models went in its winner, where they are here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.torch import save_file

from evomerge.report.page import report_html
from evomerge.report.tensors_section import tensors_section
from evomerge.run.recorded_run import load_run
from tests.recorded_runs import record_run
from tests.tiny_models import tiny_family


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of a recorded run, one of them with a tensor that nobody knows."""
    folder = tmp_path_factory.mktemp("family")
    family = tiny_family(folder / "made")
    (folder / "experts").mkdir()
    for made, name in zip(family, ("base", "sort", "twice"), strict=True):
        made.rename(folder / "experts" / name)
    file = folder / "experts" / "sort" / "model.safetensors"
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
    save_file({**tensors, "score.weight": tensors["model.norm.weight"].clone()}, file)
    return folder


def test_the_winners_tensors_are_accounted_for(folder, monkeypatch):
    monkeypatch.chdir(folder)
    record_run(Path("run"))
    run = load_run(Path("run"))
    section = tensors_section(run)
    assert section is not None
    rows = {row[0]: row[1:] for row in section.rows}
    assert rows["experts/sort"][1:] == ("", "1")
    assert {*rows} == {"experts/sort", "experts/twice", "experts/base"}
    assert any("mergekit knows no such tensor (score.weight)" in note for note in section.notes)
    (own,) = [one for one in section.data["models"] if one["model"] == "experts/sort"]
    assert own["left_out"] == {"score.weight": "mergekit knows no such tensor"}
    assert f"Tensors of the models in trial {run.winners[0].candidate.trial_id}" in report_html(run)
    json.dumps(section.data)


def test_models_that_are_not_here_are_told_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record_run(Path("run"))
    section = tensors_section(load_run(Path("run")))
    assert section is not None
    assert {row[1] for row in section.rows} == {"not counted"}
    why = "neither a folder here nor whole in the Hub's cache"
    assert section.data["not_counted"] == dict.fromkeys((row[0] for row in section.rows), why)
    (told,) = section.notes  # all of them in one sentence
    assert told.endswith(f"are not counted: {why}")
    assert "experts/sort" in told


def test_models_without_an_account_are_told_with_the_reason(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "experts", "experts")
    config = json.loads(Path("experts/sort/config.json").read_text())
    unheard = {**config, "architectures": ["UnheardOfModel"]}
    Path("experts/sort/config.json").write_text(json.dumps(unheard))
    Path("experts/twice/model.safetensors").unlink()
    record_run(Path("run"))
    section = tensors_section(load_run(Path("run")))
    assert section is not None
    assert section.data["not_counted"] == {
        "experts/sort": "mergekit has no definition of UnheardOfModel",
        "experts/twice": "it has no safetensors files",
    }


def test_a_model_that_is_whole_in_the_hubs_cache_is_counted(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "hub"
    for name in ("sort", "twice", "base"):
        repo = cache / f"models--experts--{name}"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "main").write_text("0" * 40)
        shutil.copytree(folder / "experts" / name, repo / "snapshots" / ("0" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    record_run(Path("run"))
    section = tensors_section(load_run(Path("run")))
    assert section is not None
    assert section.data["not_counted"] == {}
    assert {one["model"] for one in section.data["models"]} == {
        "experts/sort",
        "experts/twice",
        "experts/base",
    }

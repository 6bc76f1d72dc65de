"""Builds by the real ``mergekit-yaml``, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evomerge.errors import RunError
from evomerge.merging.build import build, mergekit_command
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe import Recipe
from tests.merging.built import assert_equals_folder
from tests.merging.layouts import N_LAYERS, recipe_config
from tests.tiny_models import tiny_family


def test_the_real_command_builds_the_resident_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    family = tiny_family(tmp_path / "family", num_hidden_layers=N_LAYERS)
    recipe = Recipe(recipe_config("dare_ties", "groups", family, dtype="float32"))
    live = ResidentMerger(merge_seed=11).merge(recipe)
    capfd.readouterr()
    build(recipe, tmp_path / "out", merge_seed=11, threads=torch.get_num_threads())
    assert capfd.readouterr() == ("", "")
    assert_equals_folder(live, tmp_path / "out")


def test_a_build_that_stops_says_why(tmp_path: Path) -> None:
    missing = {"model": str(tmp_path / "missing"), "parameters": {"weight": 1.0}}
    recipe = Recipe({"merge_method": "linear", "models": [missing]})
    with pytest.raises(RunError, match=r"(?s)mergekit-yaml stopped:.*missing"):
        build(recipe, tmp_path / "out")


def test_the_command_for_people_quotes_paths_and_names_the_seed() -> None:
    assert mergekit_command("my best.yml", "out", 5) == (
        "mergekit-yaml 'my best.yml' out --random-seed 5"
    )
    assert mergekit_command("best.yml", "out", 0, lora_cache="lora").endswith(
        "--random-seed 0 --lora-merge-cache lora"
    )

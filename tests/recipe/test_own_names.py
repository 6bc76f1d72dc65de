"""Names of what lies in a run folder mean the same wherever the folder is; no others change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evomerge.recipe.adapter_sum import sum_in
from evomerge.recipe.own_names import from_beside, located, of_trained, place
from evomerge.recipe.plain import Recipe

DIGEST = "0123456789abcdef"
TRAINED = f"optimizer/columns/{DIGEST}/model"
SUM = f"adapters/factors-{DIGEST}"


def of(model, **beside):
    sources = [{"sources": [{"model": model, "layer_range": [0, 2]}]}]
    return Recipe({"merge_method": "passthrough", "slices": sources, **beside})


@pytest.mark.parametrize("folder", ["run", "odd+run@2"])
def test_both_kinds_are_found_wherever_they_stand_in_a_recipe(tmp_path, folder):
    run_dir = tmp_path / folder
    found = located(of(f"base@v1+{SUM}", base_model=TRAINED), run_dir)
    assert {(m.path, m.revision, m.lora) for m in found.models} == {
        ("base", "v1", f"{run_dir}/{SUM}"),
        (f"{run_dir}/{TRAINED}", None, None),
    }
    assert located(found, tmp_path / "another") is found


@pytest.mark.parametrize(
    "name",
    [
        "org/model",
        *(f"/away/{TRAINED}", f"./{SUM}", f"{SUM}0", f"x/{TRAINED}", f"{TRAINED}/x"),
        *(f"../../{TRAINED}", f"../one/two/{TRAINED}", f"../{TRAINED}"),
    ],
)
def test_other_names_stay(tmp_path, name):
    for recipe in (of(name), of(f"base+{name}")):
        assert located(recipe, tmp_path) is recipe
    assert place(name, tmp_path) == name
    assert located(of(TRAINED), None) == of(TRAINED)


def test_a_relative_run_folder_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (model,) = located(of_trained(TRAINED), Path("run")).models
    assert model.path == os.path.join(tmp_path, "run", TRAINED)


def test_a_sum_that_was_written_is_an_adapter_like_any_other(tmp_path):
    recipe = located(of(f"base+{SUM}"), tmp_path)
    assert sum_in(of(f"base+{SUM}")).lora == SUM
    assert sum_in(recipe).lora == str(tmp_path / SUM)
    (tmp_path / SUM).mkdir(parents=True)
    assert sum_in(recipe) is None


def test_what_a_stage_keeps_is_found_from_the_stages_beside_it(tmp_path):
    own = of(f"base+{SUM}", base_model=TRAINED)
    beside = from_beside(own, "first")
    assert from_beside(beside, "second") is beside
    stages = tmp_path / "stages"
    assert located(beside, stages / "third") == located(own, stages / "first")
    assert from_beside(of("org/model"), "first") == of("org/model")

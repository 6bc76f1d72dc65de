"""Searches over models that see: run, exported, and verified with mergekit and lm-eval."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file

from evomerge.compiler.examine import compile_genome
from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import load_genome
from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import GENOME, told_in
from tests.end_to_end.conftest import make_workplace as placed
from tests.tiny_models import tiny_model
from tests.tiny_vision_models import N_LAYERS, PROCESSOR, tiny_vision_family

TRIAL = "5"  # one that the optimizer proposed
MODULES = """
  modules:
    {language}:
      parameters: {{weight: {{range: [0.2, 0.8]}}}}
"""


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """Builds write no model card, for which mergekit asks the Hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def place_of(folder: Path, kind: str, language: str) -> Path:
    """A workplace over models of a kind, whose language part alone is searched."""
    tiny_vision_family(folder / "template" / "models", kind)
    place = placed(folder / "template", folder / "place")
    modules = MODULES.format(language=language).strip("\n")
    genome = GENOME.replace("  granularity", f"{modules}\n  granularity")
    (place / "genome.yml").write_text(genome)
    return place


def test_check_says_which_parts_are_merged_and_which_are_not(tmp_path, monkeypatch):
    place = place_of(tmp_path, "qwen2_5_vl", "text_decoder")
    monkeypatch.chdir(place)
    told = told_in(place, "check", "genome.yml")
    assert "space modules" in told
    assert "weight[model_1, layer 0]" in told
    tensors = {row[0]: row[1:] for row in map(str.split, told.splitlines()) if len(row) > 2}
    assert tensors["models/base"] == ["39", "30"]  # merged, carried over
    assert tensors["models/model_1"] == ["39", "30"]  # merged, left out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "language"),
    [("qwen2_5_vl", "text_decoder"), ("llava", "model.language_model.layers")],
)
def test_what_was_searched_is_built_by_mergekit_and_answers_the_same(tmp_path, kind, language):
    place = place_of(tmp_path, kind, language)
    told_in(place, "run", "genome.yml")
    text = told_in(place, "export", "runs/genome", "--trial", TRIAL)
    modules = yaml.safe_load(text)["modules"]
    assert len(modules) == 3
    assert "sources" in modules[language]["slices"][0]
    verified = told_in(place, "verify", "runs/genome", "--trial", TRIAL, "--keep", "built")
    assert "answer as recorded" in verified
    copied = place / "built" / "preprocessor_config.json"
    assert copied.is_file() == (kind != "llava")
    assert kind == "llava" or json.loads(copied.read_text()) == PROCESSOR
    assert ("mergekit copies no preprocessor_config.json" in text) == (kind == "llava")


def test_a_first_genome_groups_the_layers_of_the_language_part(tmp_path, monkeypatch):
    place = place_of(tmp_path, "qwen2_5_vl", "text_decoder")
    monkeypatch.chdir(place)
    models = [word for i in (1, 2) for word in ("--model", f"models/model_{i}")]
    tasks = ("--task", "tiny_search", "--task-search-path", "tasks")
    told_in(place, "init", "first.yml", "--yes", *models, "--base", "models/base", *tasks)
    block = yaml.safe_load((place / "first.yml").read_text())["genome"]
    assert block["modules"] == {"text_decoder": {}}
    assert block["granularity"] == "layers"


@pytest.mark.slow
def test_parts_of_what_an_earlier_stage_found_are_merged(tmp_path):
    place = place_of(tmp_path, "qwen2_5_vl", "text_decoder")
    first = yaml.safe_load((place / "genome.yml").read_text())
    models = [{"stage": "first"}, "models/model_2"]
    modules = {"text_decoder": {"models": models}}
    second = {**first["genome"], "models": models, "modules": modules}
    stages = [
        {"name": "first", "genome": first.pop("genome")},
        {"name": "second", "genome": second},
    ]
    budget = {"optimizer": {"name": "random", "budget": 1}}
    (place / "stages.yml").write_text(yaml.safe_dump({**first, **budget, "stages": stages}))
    told_in(place, "run", "stages.yml", "--run-dir", "out")
    trials = load_run(place / "out" / "stages" / "second").leaderboard.trials
    searched = [one.outcome for one in trials if not one.candidate.is_baseline]
    assert [one.failure for one in searched] == [""]


@pytest.mark.slow
def test_text_models_are_grafted_searched_with_one_that_sees_built_and_scored_the_same(tmp_path):
    place = place_of(tmp_path, "qwen2_5_vl", "text_decoder")
    own = {"num_hidden_layers": N_LAYERS, "intermediate_size": 48, "num_key_value_heads": 2}
    for seed, name in enumerate(("writer", "coder"), 3):
        settings = {**own, "head_dim": 8, "rms_norm_eps": 1e-5, "dtype": "bfloat16"}
        tiny_model(place / name, "qwen2", seed=seed, **settings)
        told_in(place, "graft", name, "models/base", "-o", f"seeing-{name}")
    models = ["seeing-writer", "seeing-coder"]
    genome = yaml.safe_load((place / "genome.yml").read_text())
    block = genome["genome"]  # without ranges: linear divides by the sum of the weights
    block.update(models=models, merge_method="linear", modules={"text_decoder": {}})
    genome["optimizer"] = {"name": "random", "budget": 1}
    (place / "genome.yml").write_text(yaml.safe_dump(genome))
    told_in(place, "run", "genome.yml", "--run-dir", "out")
    trials = load_run(place / "out").leaderboard.trials
    assert {trial.outcome.state.value for trial in trials} == {"complete"}
    number = [str(t.candidate.trial_id) for t in trials if not t.candidate.is_baseline][-1]
    told_in(place, "export", "out", "--trial", number, "-o", "recipe.yml", "--build", "built")
    assert "answer as recorded" in told_in(place, "verify", "out", "--trial", number)
    merged, *parts = (load_file(place / one / "model.safetensors") for one in ("built", *models))
    moved = {name for name in merged if any(not merged[name].equal(p[name]) for p in parts)}
    assert moved
    assert not any("visual" in name for name in moved)  # what sees is that of all of them


def test_a_recipe_of_several_modules_is_opened_and_begins_at_its_numbers(tmp_path, monkeypatch):
    place = place_of(tmp_path, "qwen2_5_vl", "text_decoder")
    monkeypatch.chdir(place)

    def models(*weights):
        own = [{"model": f"models/model_{i + 1}"} for i in range(len(weights))]
        listed = [{**one, "parameters": {"weight": w}} for one, w in zip(own, weights, strict=True)]
        return {"models": listed}

    modules = {
        "text_decoder": models(0.3, 0.2),
        "vision_tower": models(0.1),
        "multi_modal_projector": {"models": [{"model": "models/base"}]},
    }
    recipe = {"merge_method": "task_arithmetic", "base_model": "models/base", "modules": modules}
    (place / "recipe.yml").write_text(yaml.safe_dump({**recipe, "dtype": "bfloat16"}))
    tasks = ("--task", "tiny_search", "--task-search-path", "tasks")
    told_in(place, "init", "first.yml", "--from", "recipe.yml", "--yes", *tasks)
    block = yaml.safe_load((place / "first.yml").read_text())["genome"]
    assert list(block["modules"]) == ["text_decoder", "vision_tower"]
    weight = {"range": [0.0, 0.6], "initial": 0.3}
    assert block["modules"]["text_decoder"]["models"][0]["parameters"]["weight"] == weight
    told = told_in(place, "check", "first.yml")
    assert "space modules" in told
    compiled = compile_genome(*load_genome(place / "first.yml"))
    space = compiled.merge_space
    begun = space.recipe(space.space.decode(space.space.initial)).config["modules"]
    assert {
        name: [one["parameters"]["weight"] for one in part["models"] if "parameters" in one]
        for name, part in begun.items()
    } == {"text_decoder": [0.3, 0.2], "vision_tower": [0.1], "multi_modal_projector": []}


def of_two_modules(place, weight, **more):
    """A recipe without a base, whose first module has one model, `models/model_2`."""

    def entry(number, weight):
        return {"model": f"models/model_{number}", "parameters": {"weight": weight}}

    text = {"models": [entry(1, 0.4), entry(2, 0.6)]}
    seen = {"models": [entry(2, weight)]}
    projector = {"models": [entry(2, 1.0)]}
    modules = {"vision_tower": seen, "text_decoder": text, "multi_modal_projector": projector}
    recipe = {"merge_method": "linear", "modules": modules, "dtype": "bfloat16", **more}
    (place / "recipe.yml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def test_parts_that_are_left_out_of_an_opened_recipe_stay_those_of_their_model(
    tmp_path, monkeypatch
):
    place = place_of(tmp_path, "qwen2_5_vl", "text_decoder")
    monkeypatch.chdir(place)
    of_two_modules(place, 1.0)
    tasks = ("--task", "tiny_search", "--task-search-path", "tasks")
    told_in(place, "init", "first.yml", "--from", "recipe.yml", "--yes", *tasks)
    block = yaml.safe_load((place / "first.yml").read_text())["genome"]
    assert block["models"] == ["models/model_2", "models/model_1"]
    space = compile_genome(*load_genome(place / "first.yml")).merge_space
    config = space.recipe(space.space.decode(space.space.initial)).config
    kept = {
        name: [one["model"] for one in part["models"]]
        for name, part in config["modules"].items()
        if name != "text_decoder"
    }
    assert {*map(tuple, kept.values())} == {("models/model_2",)}
    of_two_modules(place, 0.5, parameters={"normalize": False})
    with pytest.raises(GenomeError, match="has models/model_2 alone, by other weights than 1"):
        told_in(place, "init", "second.yml", "--from", "recipe.yml", "--yes", *tasks)


@pytest.mark.slow
def test_weights_of_a_part_are_learned_by_gradient_and_what_was_learned_is_built(
    tmp_path, monkeypatch
):
    place = place_of(tmp_path, "qwen2_5_vl", "text_decoder")
    text = (place / "genome.yml").read_text()
    trained = "{name: gradient, epochs: 2, batch_size: 4, budget: 3, granularity: tensor}"
    (place / "genome.yml").write_text(
        text.replace("{name: cma_es, budget: 6, population_size: 4}", trained)
    )
    told_in(place, "run", "genome.yml")
    run = load_run(place / "runs" / "genome")
    epochs = [t for t in run.leaderboard.trials if "epoch" in str(t.candidate.origin)]
    assert len(epochs) == 2
    assert len({trial.candidate.recipe.digest for trial in epochs}) == 2
    last = str(epochs[-1].candidate.trial_id)
    assert "answer as recorded" in told_in(place, "verify", "runs/genome", "--trial", last)
    columns = trained.replace("granularity: tensor", "granularity: column")
    refused = text.replace("{name: cma_es, budget: 6, population_size: 4}", columns)
    (place / "genome.yml").write_text(refused)
    monkeypatch.chdir(place)
    with pytest.raises(GenomeError, match="none per column"):
        compile_genome(*load_genome(place / "genome.yml"))

"""Recipes in the place of models: built once, searched as models, exported as stages, verified."""

from __future__ import annotations

import pytest
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import command_in, make_workplace, told_in
from tests.end_to_end.dying import EXIT_CODES, Command
from tests.end_to_end.test_death import found
from tests.tiny_models import tiny_family

pytestmark = pytest.mark.slow

HALF = """
merge_method: dare_linear
base_model: models/base
models: [{model: models/model_1, parameters: {weight: 0.8, density: 0.5}}]
dtype: float32
"""
DEEP = """
merge_method: passthrough
slices:
- sources: [{model: models/model_1, layer_range: [0, 2]}]
- sources: [{model: models/model_2, layer_range: [1, 2]}]
dtype: float32
"""
NEW = {"kind": "model_token", "model": "half.yml", "token": "<s>"}
ALSO = """
merge_method: slerp
base_model: deep.yml
models: [{model: deep.yml}, {model: deeper.yml}]
parameters: {t: 0.3}
dtype: float32
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workplace with a run over a recipe and a model in out/."""
    template = tmp_path_factory.mktemp("template")
    tiny_family(template / "models")
    folder = make_workplace(template, tmp_path_factory.mktemp("recipes") / "place")
    (folder / "half.yml").write_text(HALF)
    genome = yaml.safe_load((folder / "genome.yml").read_text())
    genome["genome"] = {"models": ["half.yml", "models/model_2"], "merge_method": "linear"}
    genome["optimizer"] = {"name": "random", "budget": 3}
    genome["baselines"] = ["models", "average"]
    (folder / "genome.yml").write_text(yaml.safe_dump(genome))
    assert "error" not in command_in(folder)("check", "genome.yml").stderr
    assert not (folder / "runs").exists()  # it is foreseen, and not built
    command_in(folder)("run", "genome.yml", "--run-dir", "out")
    return folder


def merged_of(folder):
    return [
        trial
        for trial in load_run(folder).leaderboard.trials
        if trial.candidate.recipe.kind == "multi" and not trial.candidate.is_baseline
    ]


def test_the_ledger_has_the_whole_way_and_mergekit_builds_it(finished):
    run = load_run(finished / "out")
    assert set(run.ledger.header["models"]) == {"recipe half.yml", "models/model_2"}
    names = [t.candidate.origin.tail for t in run.leaderboard.trials if t.candidate.is_baseline]
    assert {"recipe half.yml", "model_2", "model_1"} <= set(names)
    trials = merged_of(finished / "out")
    assert len(trials) == 3
    for trial in trials:
        recipe = trial.candidate.recipe
        assert {model.text for model in recipe.models} == {
            f"models/{n}" for n in ("base", "model_1", "model_2")
        }
        assert [one["merge_method"] for one in recipe.documents] == ["dare_linear", "linear"]
    number = str(trials[-1].candidate.trial_id)
    evomerge = command_in(finished)
    done = evomerge("verify", "out", "--trial", number)
    assert f"mergekit-multi builds trial {number}" in done.stderr
    assert "answer as recorded" in done.stdout
    evomerge("export", "out", "--trial", number, "-o", "recipe.yml")
    assert len(list(yaml.safe_load_all((finished / "recipe.yml").read_text()))) == 2
    told = told_in(finished, "eval", "recipe.yml", "--genome", "genome.yml", "--split", "tasks")
    score = run.evaluation("tasks", trials[-1].candidate.trial_id).metrics[0].value
    assert f"{score:.4f}"[:5] in told


def test_killed_while_it_is_built_and_later_it_becomes_the_uninterrupted_run(finished):
    out = finished / "killed"

    def has_lines():
        ledger = out / "ledger.jsonl"
        return ledger.is_file() and len(ledger.read_text().splitlines()) > 4

    command = Command(finished, ("run", "genome.yml", "--run-dir", "killed"))
    for moment in ((out / "models").exists, has_lines):
        assert command.ended("kill -9", moment) == EXIT_CODES["kill -9"]
    command.run()
    assert found(out) == found(finished / "out")
    assert "Traceback" not in command.log.read_text()


def test_a_recipe_that_changes_is_another_model(place):
    evomerge = command_in(place)
    (place / "half.yml").write_text(HALF.replace("0.8", "0.7"))
    done = evomerge("run", "genome.yml", "--run-dir", "out", exit_code=1)
    assert "model recipe half.yml: its files are others than when the run began" in done.stderr


def test_recipes_of_recipes_and_deeper_models_are_searched_by_layers_too(place):
    (place / "deep.yml").write_text(DEEP)
    (place / "deeper.yml").write_text(DEEP.replace("[1, 2]", "[0, 1]"))
    (place / "also.yml").write_text(ALSO)
    genome = yaml.safe_load((place / "genome.yml").read_text())
    settings = {
        "encoding": "slices",
        "slices": [
            {"model": "also.yml", "layer_range": [0, {"integer": [2, 3]}]},
            {"model": "deep.yml", "layer_range": [{"integer": [1, 2]}, 3]},
        ],
    }
    models = ["also.yml", "deep.yml"]
    genome["genome"] = {"models": models, "space": {"name": "layers", **settings}}
    (place / "layers.yml").write_text(yaml.safe_dump(genome))
    evomerge = command_in(place)
    assert "error" not in evomerge("check", "layers.yml").stderr
    evomerge("run", "layers.yml", "--run-dir", "stacked")
    trial = merged_of(place / "stacked")[-1]
    done = evomerge("verify", "stacked", "--trial", str(trial.candidate.trial_id))
    assert "answer as recorded" in done.stdout


def test_a_recipe_gives_tokens_too_as_mergekit_multi_lets_it(place):
    block = {
        "source": "half.yml",
        "tokens": {"<s>": {"source": "half.yml", "force": True}, "<new>": {"source": NEW}},
    }
    genome = yaml.safe_load((place / "genome.yml").read_text())
    genome["genome"]["tokenizer"] = block
    (place / "tokens.yml").write_text(yaml.safe_dump(genome))
    evomerge = command_in(place)
    assert "error" not in evomerge("check", "tokens.yml").stderr
    evomerge("run", "tokens.yml", "--run-dir", "told")
    trials = load_run(place / "told").leaderboard.trials
    assert {trial.outcome.state.value for trial in trials} == {"complete"}
    number = str(merged_of(place / "told")[-1].candidate.trial_id)
    assert "answer as recorded" in evomerge("verify", "told", "--trial", number).stdout
    evomerge("export", "told", "--trial", number, "-o", "tokens-out.yml", "--build", "built")
    stage, last = yaml.safe_load_all((place / "tokens-out.yml").read_text())
    assert last["tokenizer"]["source"] == stage["name"]
    assert last["tokenizer"]["tokens"]["<s>"]["source"] == stage["name"]
    tokenizer = AutoTokenizer.from_pretrained(place / "built")
    assert "<new>" in tokenizer.get_vocab()
    genome["genome"]["tokenizer"] = {"source": "deep.yml"}  # none of the models
    (place / "tokens.yml").write_text(yaml.safe_dump(genome))
    assert "it is a recipe" in evomerge("check", "tokens.yml", exit_code=2).stderr


def change(folder):
    """Gives a model other weights."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({name: value * 1.5 for name, value in tensors.items()}, file, {"format": "pt"})


def test_a_model_inside_a_recipe_that_changes_is_told_and_nothing_of_it_holds(place):
    assert set(load_run(place / "out").ledger.header["inside"]) == {"models/base", "models/model_1"}
    change(place / "models/model_1")
    evomerge = command_in(place)
    done = evomerge("run", "genome.yml", "--run-dir", "out", exit_code=1)
    told = "model models/model_1: its files are others than when the run began"
    assert told in done.stderr
    assert "model models/base" not in done.stderr
    number = str(merged_of(place / "out")[-1].candidate.trial_id)
    done = evomerge("verify", "out", "--trial", number, exit_code=1)
    assert "models/model_1" in done.stderr
    assert "files are others than when the run began" in done.stderr
    done = evomerge("run", "genome.yml", "--run-dir", "out", "--fork", "new")
    old, new = load_run(place / "out").ledger, load_run(place / "new").ledger
    held = {digest for _, digest in new.known}
    named = {
        trial.candidate.recipe.digest: {model.text for model in trial.candidate.recipe.named}
        for trial in old.trials.values()
    }
    assert held == {digest for digest, names in named.items() if "models/model_1" not in names}
    assert held

"""A run of LoRA experts whose winner is written as a LoRA, scored beside it, and loaded again."""

from __future__ import annotations

import json

import pytest
import yaml
from safetensors.torch import load_file, save_file

from tests.end_to_end.conftest import command_in, make_workplace
from tests.lora_experts import lora_expert
from tests.tiny_models import tiny_family, tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # PEFT warns of heads


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workplace with a run over two adapters, and one over whole models."""
    folder = tmp_path_factory.mktemp("adapters")
    tiny_family(folder / "template" / "models")
    place = make_workplace(folder / "template", folder / "workplace")
    base = tiny_model(place / "tied", "qwen2", tie_word_embeddings=True)
    for seed, name in enumerate("ab"):
        lora_expert(place / name, base, seed, std=0.3)
    genome = yaml.safe_load((place / "genome.yml").read_text())
    genome["optimizer"] = {"name": "random", "budget": 2}
    (place / "genome.yml").write_text(yaml.safe_dump(genome))
    own = {"models": ["tied+a", "tied+b"], "base_model": "tied", "granularity": "layer"}
    genome["genome"] = {"merge_method": "task_arithmetic", **own}
    (place / "experts.yml").write_text(yaml.safe_dump({**genome, "output": "adapter"}))
    run = command_in(place)
    run("run", "experts.yml", "--run-dir", "out")
    run("run", "genome.yml", "--run-dir", "whole")
    return place


def test_a_winner_of_adapters_is_an_adapter_that_answers_like_it(place):
    run = command_in(place)
    last = str(5)  # a trial of the optimizer, whose weights are no whole numbers
    told = run("export", "out", "--trial", last, "-o", "lora").stdout
    assert "lora is an adapter of tied, rank 4, 4 modules" in told.replace("\n", " ")
    config = json.loads((place / "lora" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 4)
    assert json.loads((place / "lora" / "fit.json").read_text())["relative_error"] < 1e-5
    run("export", "out", "--trial", last, "--build", "built")
    scores = run(
        *("eval", "built", "tied+lora", "--genome", "experts.yml", "--split", "holdout", "--json")
    )
    (row,) = json.loads(scores.stdout)["rows"]
    assert row["models"]["tied+lora"]["difference_to_first"]["n_differing"] == 0
    assert "lora" in run("export", "out", "-o", "lora", exit_code=2).stderr  # it is there
    run("export", "out", "--trial", last, "-o", "lora", "--force", "--no-score")


def test_whole_models_need_a_rank_and_are_scored(place):
    run = command_in(place)
    refused = run("export", "whole", "--trial", "4", "--adapter", "small", exit_code=1)
    assert "the merge is of no LoRA adapters. Give --rank N" in refused.stderr
    told = run("export", "whole", "--trial", "4", "--adapter", "small", "--rank", "4").stdout
    assert "left out" in told
    assert "difference to winner" in told
    assert json.loads((place / "small" / "fit.json").read_text())["rank"] == 4


def test_an_adapter_of_models_that_changed_says_so(place):
    file = place / "models/model_1/model.safetensors"
    save_file({name: t * 1.5 for name, t in load_file(file).items()}, file, {"format": "pt"})
    told = command_in(place)(
        *("export", "whole", "--trial", "4", "--adapter", "other", "--rank", "1", "--no-score")
    )
    assert "warning: models/model_1: the model's files are others" in told.stderr

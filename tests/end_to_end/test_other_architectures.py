"""Models of several architectures: refused where they would be merged, mixed and scored anyway."""

from __future__ import annotations

import json

import pytest
import yaml

from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import command_in, make_workplace
from tests.tiny_models import tiny_family, tiny_model

MODELS = ["models/base", "qwen", "experts"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workplace with models of three architectures and one tokenizer."""
    folder = tmp_path_factory.mktemp("architectures")
    tiny_family(folder / "template" / "models")
    place = make_workplace(folder / "template", folder / "workplace")
    tiny_model(place / "qwen", "qwen2", seed=3, num_hidden_layers=3)
    tiny_model(place / "experts", "qwen2_moe", seed=4, vocab_size=128)
    genome = yaml.safe_load((place / "genome.yml").read_text())
    genome["genome"] = {"models": MODELS, "space": "mixture"}
    genome["optimizer"] = {"name": "random", "budget": 3}
    (place / "genome.yml").write_text(yaml.safe_dump(genome))
    return place


@pytest.mark.slow
def test_a_mixture_of_them_is_searched_verified_and_scored(place):
    run = command_in(place)
    assert "space mixture" in run("check", "genome.yml").stdout
    run("run", "genome.yml", "--run-dir", "out")
    recorded = load_run(place / "out")
    assert {t.outcome.state.value for t in recorded.leaderboard.trials} == {"complete"}
    trial = [t for t in recorded.leaderboard.trials if not t.candidate.is_baseline][-1]
    number = str(trial.candidate.trial_id)
    assert "answer as recorded" in run("verify", "out", "--trial", number).stdout
    run("export", "out", "--trial", number, "-o", "mixture.yml")
    told = run(
        "eval", "mixture.yml", *MODELS, "--genome", "genome.yml", "--split", "tasks", "--json"
    )
    (row,) = json.loads(told.stdout)["rows"]
    evaluation = recorded.evaluation("tasks", trial.candidate.trial_id)
    assert row["models"]["mixture.yml"]["score"] == pytest.approx(evaluation.metrics[0].value)
    alone = {
        t.candidate.origin.tail: t for t in recorded.leaderboard.trials if t.candidate.is_baseline
    }
    for name in MODELS[1:]:
        score = recorded.evaluation("tasks", alone[name].candidate.trial_id).metrics[0].value
        assert row["models"][name]["score"] == pytest.approx(score)


@pytest.mark.slow
def test_weights_of_them_are_not_merged(place):
    genome = yaml.safe_load((place / "genome.yml").read_text())
    genome["genome"] = {"models": MODELS, "merge_method": "linear"}
    (place / "merged.yml").write_text(yaml.safe_dump(genome))
    told = command_in(place)("check", "merged.yml", exit_code=2)
    said = " ".join((told.stdout + told.stderr).split())
    assert "expected LlamaForCausalLM as models/base" in said
    assert "mergekit has no definition of architecture Qwen2MoeForCausalLM" in said

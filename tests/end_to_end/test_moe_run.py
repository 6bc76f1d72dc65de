"""A search for a mixture of experts: checked, run, exported, built by its comments, verified."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import command_in, make_workplace

pytestmark = pytest.mark.slow

N_BASELINES = 4
TRIAL = N_BASELINES + 2
MODES = {
    "hidden": {"gate_mode": "hidden"},
    "random": {"gate_mode": "random", "experts_per_token": 1},
}


@pytest.fixture(scope="module", params=sorted(MODES))
def finished(request, _template, tmp_path_factory):
    """A workplace with a finished run in out/: a merge that draws, a merge and a model."""
    place = make_workplace(_template, tmp_path_factory.mktemp("finished") / "workplace")
    genome = yaml.safe_load((place / "genome.yml").read_text())
    experts = [
        {"merge_method": "dare_linear", "positive_prompts": ["the quick brown fox"]},
        {"granularity": "parameter", "positive_prompts": ["five dozen jugs"]},
        {"model": "models/model_2", "positive_prompts": ["pack my box"]},
    ]
    del genome["genome"]["layer_granularity"]
    genome["genome"]["granularity"] = "layer"
    genome["genome"]["space"] = {"name": "moe", "experts": experts, **MODES[request.param]}
    (place / "genome.yml").write_text(yaml.safe_dump(genome))
    command_in(place)("check", "genome.yml")
    command_in(place)("run", "genome.yml", "--run-dir", "out")
    return place


def test_every_trial_is_scored_and_the_next_command_finds_nothing_to_do(place):
    run = load_run(place / "out")
    assert {trial.outcome.state.value for trial in run.leaderboard.trials} == {"complete"}
    kinds = [trial.candidate.recipe.kind for trial in run.leaderboard.trials]
    assert kinds == ["merge"] * N_BASELINES + ["moe"] * (len(kinds) - N_BASELINES)
    scores = {trial.outcome.evaluation.metrics for trial in run.leaderboard.trials}
    assert len(scores) > 1


def test_mergekits_commands_build_what_was_scored(place):
    done = command_in(place)("verify", "out", "--trial", str(TRIAL), "--keep", "kept")
    assert " answer as recorded" in done.stdout
    assert "mergekit-moe builds trial" in done.stderr
    command_in(place)("export", "out", "--trial", str(TRIAL), "-o", "winner", "--build", "built")
    assert sorted(file.name for file in (place / "winner").iterdir()) == ["merges.yml", "moe.yml"]
    texts = {name: (place / "winner" / name).read_text() for name in ("merges.yml", "moe.yml")}
    assert len(list(yaml.safe_load_all(texts["merges.yml"]))) == 2
    lines = [line[3:] for line in texts["moe.yml"].splitlines() if line.startswith("#   merge")]
    assert [line.split()[0] for line in lines] == ["mergekit-multi", "mergekit-moe"]
    scripts = Path(sys.executable).parent
    for line in lines:  # as a person would, elsewhere than `built`
        words = shlex.split(line.replace("built", "by-hand"))
        if words[0] == "mergekit-moe":
            moved = place / "winner" / "moe.yml"
            moved.write_text(texts["moe.yml"].replace("built", "by-hand"))
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [str(scripts / words[0]), *words[1:]], cwd=place, env=environment, check=True
        )
    built = load_file(place / "built" / "model.safetensors")
    by_hand = load_file(place / "by-hand" / "model.safetensors")
    kept = load_file(place / "kept" / "model.safetensors")
    assert built.keys() == by_hand.keys() == kept.keys()
    assert all((built[name] == by_hand[name]).all() for name in built)
    assert all((built[name] == kept[name]).all() for name in built)


def test_the_built_folder_is_scored_as_any_model(place):
    run = command_in(place)
    run("export", "out", "--trial", str(TRIAL), "-o", "winner", "--build", "built")
    told = run("eval", "built", "--genome", "genome.yml", "--split", "tasks", "--json").stdout
    (row,) = json.loads(told)["rows"]
    recorded = load_run(place / "out").evaluation("tasks", TRIAL)
    assert row["models"]["built"]["score"] == pytest.approx(recorded.metrics[0].value)


def test_several_files_need_a_folder(place):
    said = command_in(place)("export", "out", "--trial", str(TRIAL), exit_code=2).stderr
    assert "several files, which need a folder" in said
    command_in(place)("export", "out", "--top", "3", "-o", "best")
    found = sorted(
        str(file.relative_to(place / "best")) for file in (place / "best").rglob("*.yml")
    )
    trials = [name.partition("/")[0] for name in found]
    assert len({name.removesuffix(".yml") for name in trials}) == 3

"""A search over sums of LoRA adapters: run, stopped, continued, exported, verified."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

from evomerge.cli.main import main
from evomerge.foundations.errors import MergeError
from evomerge.run.best import best_content
from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import command_in, make_workplace, told_in
from tests.lora_experts import WEIGHTS, lora_expert
from tests.shared_fixtures import own_dataset_cache  # noqa: F401  # a fixture that acts on its own

EXPERTS = ("models/base+loras/a", "models/base+loras/b", "models/base+loras/c")
FILES = ["adapter_config.json", "adapter_model.safetensors"]
MODEL = "model.safetensors"
SWARM = "{name: swarm, budget: 6, population_size: 4}"


@pytest.fixture(scope="module")
def finished(_template, tmp_path_factory):
    """A workplace with three adapters and a finished run of a swarm in out/."""
    folder = make_workplace(_template, tmp_path_factory.mktemp("factors") / "workplace")
    for seed, name in enumerate("abc"):
        lora_expert(folder / "loras" / name, folder / "models" / "base", seed)
    genome = yaml.safe_load((folder / "genome.yml").read_text())
    genome["genome"] = {"models": list(EXPERTS), "merge_method": "linear", "adapters": "factors"}
    genome["optimizer"] = yaml.safe_load(SWARM)
    (folder / "genome.yml").write_text(yaml.safe_dump(genome))
    told_in(folder, "run", "genome.yml", "--run-dir", "out")
    return folder


def trials(folder: Path) -> list[dict]:
    events = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    return [event for event in events if event["kind"] == "trial"]


def test_every_trial_is_the_base_with_an_adapter_of_its_own(finished):
    found = trials(finished / "out")
    assert [trial["origin"] for trial in found[:4]] == [
        *({"kind": "model", "name": name} for name in EXPERTS),
        {"kind": "average"},
    ]
    assert {trial["state"] for trial in found} == {"complete"}
    for trial in found:
        recipe = trial["recipe"]
        (source,) = recipe["slices"][0]["sources"]
        assert recipe["merge_method"] == "passthrough"
        assert source["model"].startswith("models/base+adapters/factors-")
        named = finished / "out" / f"{source['model'].partition('+')[2]}.json"
        content = json.loads(named.read_text())
        assert content["models"] == list(EXPERTS)
        assert sum(content["coefficients"]) == pytest.approx(1.0, abs=1e-5)
    assert not any(path.is_dir() for path in (finished / "out" / "adapters").iterdir())


@pytest.mark.slow
def test_a_run_that_was_stopped_and_moved_goes_on_as_if_it_had_not_been(place, finished):
    ledger = place / "out" / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    kept = next(i for i, line in enumerate(lines) if '"id":7' in line.replace(" ", ""))
    ledger.write_text("".join(lines[:kept]))
    shutil.rmtree(place / "out" / "adapters")
    shutil.move(place / "out", place / "elsewhere")
    command_in(place)("run", "genome.yml", "--run-dir", "elsewhere")
    known = [(t["digest"], t["metrics"]) for t in trials(finished / "out")]
    assert [(t["digest"], t["metrics"]) for t in trials(place / "elsewhere")] == known


@pytest.fixture
def winner(place, monkeypatch):
    """best.yml of the last trial that the optimizer proposed, whoever won."""
    monkeypatch.chdir(place)
    run = load_run(Path("out"))
    content = best_content(run.ledger, run.leaderboard, run.ledger.trials[max(run.ledger.trials)])
    Path("out/best.yml").write_text(yaml.safe_dump(content))
    return "out/best.yml"


def export(*arguments):
    """The command, in this process."""
    result = CliRunner().invoke(main, ["export", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    if "-o" in arguments and str(arguments[-1]).endswith("winner/recipe.yml"):
        told = r"factors-\w+ \([0-9.]+ k?B\) is the adapter that the recipe names"
        assert re.search(told, result.stderr)
    return result.stdout


def test_an_export_writes_the_adapter_beside_the_recipe(place, winner):
    export(winner, "-o", "winner/recipe.yml")
    recipe = yaml.safe_load((place / "winner" / "recipe.yml").read_text())
    (source,) = recipe["slices"][0]["sources"]
    base, _, adapter = source["model"].partition("+")
    assert (base, Path(adapter).parent) == ("models/base", Path("winner"))
    text = (place / "winner" / "recipe.yml").read_text()
    assert f"# Build it where these folders are: models/base, {Path(adapter)}." in text
    sum_file = Path("out", "adapters", f"{Path(adapter).name}.json")
    coefficients = json.loads(sum_file.read_text())["coefficients"]
    parts = [load_file(place / "loras" / name / WEIGHTS) for name in "abc"]
    for name, tensor in load_file(adapter + f"/{WEIGHTS}").items():
        a, b, c = (k * part[name] for k, part in zip(coefficients, parts, strict=True))
        assert torch.equal(tensor, a + b + c)
    export(winner, "-o", "winner/recipe.yml")  # again: it is there already
    (place / "out" / "front").mkdir()
    of_a_front = shutil.copy(winner, place / "out" / "front" / "trial-00009.yml")
    export(str(of_a_front), "-o", "front/recipe.yml")
    assert (place / "front" / Path(adapter).name / WEIGHTS).is_file()
    assert "# Its adapter is written where the recipe is: export it with -o" in export(winner)


def test_several_recipes_share_a_folder_with_their_adapters(place, monkeypatch):
    monkeypatch.chdir(place)
    export("out", "--top", "3", "-o", "front")
    named = {
        str(yaml.safe_load(f.read_text())["slices"]) for f in Path(place / "front").glob("*.yml")
    }
    assert len(named) == 3
    for path in (place / "front").iterdir():
        assert path.suffix == ".yml" or sorted(p.name for p in path.iterdir()) == FILES


def test_an_expert_is_exported_as_it_was_named(place, monkeypatch):
    monkeypatch.chdir(place)
    text = export("out", "--trial", "1", "-o", "expert.yml")
    assert text == ""
    recipe = yaml.safe_load((place / "expert.yml").read_text())
    assert recipe["slices"][0]["sources"][0]["model"] == EXPERTS[1]
    assert list(place.glob("factors-*")) == []


def test_a_best_file_without_its_run_says_what_is_missing(winner, tmp_path):
    shutil.copy(winner, tmp_path / "best.yml")
    with pytest.raises(MergeError, match=r"the sum of adapters .* cannot be read"):
        export(str(tmp_path / "best.yml"), "-o", str(tmp_path / "recipe.yml"))


@pytest.mark.slow
def test_the_winner_is_built_by_mergekit_and_answers_as_recorded(place, winner):
    run = command_in(place)
    assert "answer as recorded" in run("verify", winner).stdout
    run("export", winner, "-o", "winner/recipe.yml")
    text = (place / "winner" / "recipe.yml").read_text()
    shown = next(line for line in text.splitlines() if "mergekit-yaml" in line)
    _, file, out, *options = shlex.split(shown.removeprefix("#"))
    script = [sys.executable, "-m", "mergekit.scripts.run_yaml", file, out, *options]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(script, cwd=place, check=True, capture_output=True, env=offline)
    by_hand = load_file(place / out / MODEL)
    run("export", winner, "--build", "models/built")
    again = load_file(place / "models/built" / MODEL)
    assert all(torch.equal(tensor, again[name]) for name, tensor in by_hand.items())
    (adapter,) = (place / "models").glob("factors-*")
    factors, built = (load_file(f) for f in (adapter / WEIGHTS, place / "models/built" / MODEL))
    before = load_file(place / "models/base" / MODEL)
    name = "model.layers.1.mlp.up_proj"
    a, b = (factors[f"base_model.model.{name}.lora_{factor}.weight"] for factor in "AB")
    assert torch.equal(built[f"{name}.weight"], before[f"{name}.weight"] + 1.5 * (b @ a))


@pytest.mark.slow
def test_a_fork_repeats_every_sum_once_an_expert_has_changed(place):
    command = ("run", "genome.yml", "--run-dir", "out", "--fork")
    n_trials = len(trials(place / "out"))
    assert f"{n_trials} trials and " in command_in(place)(*command, "same").stderr
    lora_expert(place / "loras" / "b", place / "models" / "base", 7)
    assert "0 trials and 0 final scores" in command_in(place)(*command, "changed").stderr

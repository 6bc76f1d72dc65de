"""A search over paths of layers: checked, run, exported, verified with mergekit's own command."""

from __future__ import annotations

import pytest
import yaml

from evomerge.run.recorded_run import load_run

SPACES = {
    "path": {"edits": 2, "longest_edit": 2},
    "mask": {"encoding": "mask", "repeats": 1},
    "slices": {
        "encoding": "slices",
        "slices": [
            {"model": "models/model_1", "layer_range": [0, {"integer": [1, 2]}]},
            {
                "model": "models/model_2",
                "layer_range": [{"integer": [0, 1]}, 2],
                "scale": {"range": [0.5, 1.5]},
            },
        ],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("encoding", SPACES)
def test_paths_are_checked_run_exported_and_verified(workplace, evomerge, encoding):
    genome = yaml.safe_load((workplace / "genome.yml").read_text())
    models = ["models/model_1", "models/model_2"]
    genome["genome"] = {"models": models, "space": {"name": "layers", **SPACES[encoding]}}
    genome["optimizer"] = {"name": "random", "budget": 6}
    (workplace / "genome.yml").write_text(yaml.safe_dump(genome))
    assert "space layers" in evomerge("check", "genome.yml").stdout
    evomerge("run", "genome.yml", "--run-dir", "out")
    trials = load_run(workplace / "out").leaderboard.trials
    assert len(trials) == 9
    assert {trial.outcome.state.value for trial in trials} == {"complete"}
    own = [one for one in trials if not one.candidate.is_baseline]
    stacked = max(own, key=lambda one: len(one.candidate.recipe.config["slices"]))
    trial = str(stacked.candidate.trial_id)
    evomerge("export", "out", "--trial", trial, "-o", "stack.yml")
    exported = yaml.safe_load((workplace / "stack.yml").read_text())
    assert exported["slices"] == stacked.candidate.recipe.config["slices"]
    evomerge("verify", "out", "--trial", trial)  # exit code 0: every document is the same

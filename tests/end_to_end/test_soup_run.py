"""A search for a soup: checked, run, exported."""

from __future__ import annotations

import pytest
import yaml

from evomerge.run.recorded_run import load_run


@pytest.mark.slow
def test_a_soup_is_checked_run_and_exported(workplace, evomerge):
    genome = yaml.safe_load((workplace / "genome.yml").read_text())
    models = ["models/model_1", "models/model_2", "models/base"]
    genome["genome"] = {"models": models, "space": "soup"}
    genome["optimizer"] = {"name": "tpe", "budget": 5}
    (workplace / "genome.yml").write_text(yaml.safe_dump(genome))
    assert "space soup" in evomerge("check", "genome.yml").stdout
    evomerge("run", "genome.yml", "--run-dir", "out")
    trials = load_run(workplace / "out").leaderboard.trials
    assert 4 < len(trials) <= 9  # of seven soups four were known
    assert {trial.outcome.state.value for trial in trials} == {"complete"}
    evomerge("export", "out", "--trial", "3", "-o", "winner.yml")  # the uniform average
    winner = yaml.safe_load((workplace / "winner.yml").read_text())
    assert (winner["merge_method"], winner["parameters"]) == ("linear", {"normalize": True})

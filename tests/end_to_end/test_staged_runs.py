"""A recipe of several stages as a seed: tried, exported and built by the real mergekit-multi."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evomerge.nouns.evaluation import TrialState
from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import command_in

pytestmark = pytest.mark.slow

STAGES = """
name: half
merge_method: dare_linear
base_model: models/base
models: [{model: models/model_1, parameters: {weight: 0.8, density: 0.5}}]
dtype: float32
---
merge_method: slerp
base_model: models/model_2
models: [{model: half}]
parameters: {t: [0.2, 0.6]}
dtype: float32
"""


def test_its_built_model_answers_as_recorded(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    Path("stages.yml").write_text(STAGES)
    evomerge = command_in(workplace)
    seeded = ("--set", "optimizer.seed_from=stages.yml", "--set", "optimizer.budget=2")
    evomerge("run", "genome.yml", "--run-dir", "out", *seeded)
    (trial,) = (
        trial
        for trial in load_run(Path("out")).ledger.trials.values()
        if not trial.candidate.recipe.is_plain
    )
    assert trial.outcome.state is TrialState.COMPLETE, trial.outcome.failure
    number = str(trial.candidate.trial_id)
    done = evomerge("verify", "out", "--trial", number)
    assert f"mergekit-multi builds trial {number}" in done.stderr
    assert "answer as recorded" in done.stdout
    evomerge("export", "out", "--trial", number, "-o", "recipe.yml")
    text = Path("recipe.yml").read_text()
    command = "mergekit-multi recipe.yml --out-path merged --intermediate-dir merged-stages"
    assert f"#   {command} --no-lazy" in text
    assert len(list(yaml.safe_load_all(text))) == 2

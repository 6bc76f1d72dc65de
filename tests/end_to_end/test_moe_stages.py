"""A mixture of experts over what a stage found: searched, built by mergekit, scored again."""

from __future__ import annotations

import pytest
import yaml

from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import command_in, make_workplace
from tests.end_to_end.test_stages import TEXT
from tests.tiny_models import tiny_family

pytestmark = pytest.mark.slow

STAGES = """
tasks: [{perplexity: text.txt}]
baselines: [models]
stages:
  - name: sums
    genome:
      models: [models/model_1, models/model_2]
      merge_method: linear
    optimizer: {name: random, budget: 6}
  - name: experts
    genome:
      models: [{stage: sums}, models/model_1, models/base]
      merge_method: linear
      space:
        name: moe
        experts:
        - {models: [{stage: sums}, models/base], positive_prompts: [the quick brown fox]}
        - {model: {stage: sums}, positive_prompts: [one two three]}
        - {models: [{stage: sums}, models/model_1], positive_prompts: [a lazy dog]}
    optimizer: {name: random, budget: 2}
"""


def test_experts_are_merged_of_what_a_stage_found_and_built_by_mergekit(tmp_path):
    tiny_family(tmp_path / "template" / "models")
    folder = make_workplace(tmp_path / "template", tmp_path / "place")
    (folder / "stages.yml").write_text(STAGES)
    (folder / "text.txt").write_text(TEXT)
    evomerge = command_in(folder)
    assert "error" not in evomerge("check", "stages.yml").stderr
    evomerge("run", "stages.yml", "--run-dir", "out")
    trials = load_run(folder / "out/stages/experts").leaderboard.trials
    searched = [trial for trial in trials if trial.candidate.recipe.kind == "moe"]
    assert len(searched) == 2
    assert all(trial.outcome.evaluation is not None for trial in searched)
    number = str(searched[-1].candidate.trial_id)
    done = evomerge("verify", "out/stages/experts", "--trial", number)
    assert f"mergekit-moe builds trial {number}" in done.stderr
    assert "answer as recorded" in done.stdout
    evomerge("export", "out/stages/experts", "--trial", number, "-o", "recipe")
    merges = [*yaml.safe_load_all((folder / "recipe" / "merges.yml").read_text())]
    assert len(merges) == 3  # what the stage found, and two experts

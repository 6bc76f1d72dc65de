"""Weights first, then layers of what that found: killed, built by mergekit-multi, scored again."""

from __future__ import annotations

import pytest
import yaml

from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import command_in, make_workplace
from tests.end_to_end.dying import EXIT_CODES, Command
from tests.end_to_end.test_death import found
from tests.end_to_end.test_stages import TEXT
from tests.tiny_models import tiny_family

pytestmark = pytest.mark.slow

STAGES = """
tasks: [{perplexity: text.txt}]
holdout: [{name: tiny_holdout, limit: 12}]
task_search_path: [tasks]
baselines: [models, average]
stages:
  - name: sums
    genome:
      models: [models/model_1, models/model_2]
      merge_method: linear
    optimizer: {name: random, budget: 3}
  - name: stacks
    genome:
      models: [{stage: sums}, models/model_1, models/model_2]
      space: {name: layers, edits: 2, longest_edit: 2, scales: [0.5, 2]}
    optimizer: {name: random, budget: 8}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workplace with an uninterrupted run in out/."""
    template = tmp_path_factory.mktemp("template")
    tiny_family(template / "models")
    folder = make_workplace(template, tmp_path_factory.mktemp("layers") / "place")
    (folder / "stages.yml").write_text(STAGES)
    (folder / "text.txt").write_text(TEXT)
    assert "error" not in command_in(folder)("check", "stages.yml").stderr
    command_in(folder)("run", "stages.yml", "--run-dir", "out")
    return folder


def stacks(folder):
    """Trials of the second stage that run layers of what the first one found."""
    return [
        trial
        for trial in load_run(folder / "stages" / "stacks").leaderboard.trials
        if trial.candidate.recipe.kind == "multi" and not trial.candidate.is_baseline
    ]


def n_of_the_stage(trial):
    """Slices of what the first stage found."""
    made, last = trial.candidate.recipe.made, trial.candidate.recipe.documents[-1]
    return sum(slice_["sources"][0]["model"] in made for slice_ in last["slices"])


def test_layers_of_what_a_stage_found_are_built_by_mergekit_and_answer_as_recorded(finished):
    evomerge = command_in(finished)
    trials = stacks(finished / "out")
    assert {trial.outcome.state.value for trial in trials} == {"complete"}
    trial = max(trials, key=n_of_the_stage)
    number = str(trial.candidate.trial_id)
    evomerge("export", "out/stages/stacks", "--trial", number, "-o", "recipe.yml")
    text = (finished / "recipe.yml").read_text()
    assert "mergekit-multi recipe.yml" in text
    sums, stack = yaml.safe_load_all(text)
    assert sums["merge_method"] == "linear"
    assert stack["merge_method"] == "passthrough"
    assert len(stack["slices"]) > 1
    models = {slice_["sources"][0]["model"] for slice_ in stack["slices"]}
    assert sums["name"] in models  # layers of what the first document makes, among them
    done = evomerge("verify", "out/stages/stacks", "--trial", number)
    assert f"mergekit-multi builds trial {number}" in done.stderr
    assert "answer as recorded" in done.stdout


def test_killed_in_either_stage_and_in_between_it_becomes_the_uninterrupted_run(finished):
    out = finished / "killed"

    def has_lines(stage, count):
        ledger = out / "stages" / stage / "ledger.jsonl"
        return lambda: ledger.is_file() and len(ledger.read_text().splitlines()) > count

    moments = [has_lines("sums", 4), (out / "models").exists]
    moments += [has_lines("stacks", 0)]
    command = Command(finished, ("run", "stages.yml", "--run-dir", "killed"))
    for moment in moments:
        assert command.ended("kill -9", moment) == EXIT_CODES["kill -9"]
    command.run()
    for name in ("sums", "stacks"):
        assert found(out / "stages" / name) == found(finished / "out" / "stages" / name)
    assert "Traceback" not in command.log.read_text()

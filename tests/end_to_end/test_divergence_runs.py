"""Searches that no label steers: every optimizer of the table with `divergence:` alone."""

from __future__ import annotations

import json
import math

import pytest

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from evomerge.optimizers import OPTIMIZERS
from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import WORDS
from tests.scripted_llm import Script, served
from tests.shared_fixtures import own_dataset_cache  # noqa: F401  # a fixture that acts on its own

pytestmark = pytest.mark.slow

GENOME = """
genome:
  models: [models/model_1, models/model_2]
  base_model: models/base
  merge_method: task_arithmetic
tasks:
- divergence: {teachers: {models/model_1: first.jsonl, models/model_2: second.jsonl}}
baselines: [models]
optimizer: OPTIMIZER
"""
BUDGET = 6  # two of these are the models
# What some need beside their name.
SETTINGS = {
    "grid": {"n_values": 2},
    "cma_es": {"population_size": 4},
    "niches": {"population_size": 2},
    "swarm": {"population_size": 2},
    "llm": {"population_size": 4, "model": "scripted"},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_divergence_steers_every_optimizer(workplace, monkeypatch, name):
    monkeypatch.chdir(workplace)
    for number, file in enumerate(("first.jsonl", "second.jsonl")):
        texts = (" ".join(WORDS[i:] + WORDS[:i]) for i in range(number, 8, 2))
        (workplace / file).write_text("".join(f"{json.dumps({'text': one})}\n" for one in texts))
    with served(Script()) as url:
        own = {"name": name, "budget": BUDGET, **SETTINGS.get(name, {})}
        own |= {"base_url": url} if name == "llm" else {}
        file = workplace / "genome.yml"
        file.write_text(GENOME.replace("OPTIMIZER", json.dumps(own)))
        genome, source = load_genome(file)
        compiled = compile_genome(genome, source, Permissions(), workplace / "out")
        list(search_for(compiled, workplace / "out").run())
    run = load_run(workplace / "out")
    trials = run.leaderboard.trials
    assert [one.outcome.state.value for one in trials] == ["complete"] * len(trials)
    assert len(trials) >= 4
    values = {one.candidate.trial_id: one.outcome.evaluation.metrics[0] for one in trials}
    for one in values.values():
        assert (one.key.metric, one.higher_is_better) == ("divergence", False)
        assert math.isfinite(one.value)
        assert one.value > 0
    best = min(values, key=lambda trial: values[trial].value)
    assert run.winners[0].candidate.trial_id == best

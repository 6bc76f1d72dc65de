"""Mixtures searched, exported and verified; and one beside a search for merges."""

from __future__ import annotations

import json

import pytest
import yaml

from evomerge.recipe.file import documents_of, recipe_of
from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import WORDS
from tests.evaluators.tiny_tasks import write_tasks

pytestmark = pytest.mark.slow

MODELS = ["models/base", "models/model_1", "models/model_2"]


def with_genome(workplace, **changes):
    genome = yaml.safe_load((workplace / "genome.yml").read_text())
    genome |= changes
    (workplace / "genome.yml").write_text(yaml.safe_dump(genome))


def tasks_of_all_kinds(workplace):
    """Options, texts that are written, and texts that are read whole."""
    (workplace / "more").mkdir()
    write_tasks(workplace / "more")
    (workplace / "text.txt").write_text(" ".join(WORDS * 3))
    kinds = [{"name": "tiny_search"}, {"name": "tiny_text", "metric": "exact_match,whole"}]
    asked = [{"question": f"after {word}?", "answer": word} for word in WORDS[:3]]
    (workplace / "asked.json").write_text(json.dumps({"dev": asked}))
    kinds.append({"exact": {"file": "asked.json", "name": "asked", "max_tokens": 5}})
    return [*kinds, {"perplexity": {"file": "text.txt", "name": "foretold"}, "weight": 0.1}]


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_a_mixture_by_task_is_run_exported_and_verified(workplace, evomerge, mean):
    with_genome(
        workplace,
        genome={"models": MODELS, "space": {"name": "mixture", "per": "task", "mean": mean}},
        tasks=tasks_of_all_kinds(workplace),
        validation=[],
        task_search_path=["tasks", "more"],
        optimizer={"name": "random", "budget": 4},
    )
    assert "space mixture" in evomerge("check", "genome.yml").stdout
    evomerge("run", "genome.yml", "--run-dir", "out")
    trials = load_run(workplace / "out").leaderboard.trials
    assert {trial.outcome.state.value for trial in trials} == {"complete"}
    found = [trial for trial in trials if not trial.candidate.is_baseline]
    assert len(found) == 4
    last = str(found[-1].candidate.trial_id)
    evomerge("export", "out", "--trial", last, "-o", "mixture.yml")
    text = (workplace / "mixture.yml").read_text()
    assert "# No command builds it: a mixture is several models side by side" in text
    assert "#   evomerge eval mixture.yml --tasks TASKS" in text
    written = recipe_of(documents_of(workplace / "mixture.yml"), pytest.fail)
    assert written == found[-1].candidate.recipe
    assert set(written.config["tasks"]) == {"tiny_search", "tiny_text", "asked", "foretold"}
    done = evomerge("verify", "out", "--trial", last)
    assert done.stdout.startswith(f"trial {last}: all ")
    assert done.stdout.endswith("answer as recorded\n")
    refused = evomerge("export", "out", "--trial", last, "--build", "built", exit_code=2)
    assert "--build has nothing to build: a mixture is several models" in refused.stderr
    refused = evomerge("verify", "out", "--trial", last, "--keep", "kept", exit_code=1)
    assert "there is no built model to keep" in refused.stderr


def test_a_mixture_stands_beside_the_merges_and_never_wins(workplace, evomerge):
    kinds = ["models", "average", "mixture"]
    with_genome(workplace, baselines=kinds, optimizer={"name": "random", "budget": 3})
    evomerge("run", "genome.yml", "--run-dir", "out")
    run = load_run(workplace / "out")
    [mixture] = [t for t in run.leaderboard.trials if not t.candidate.origin.may_win]
    assert mixture.outcome.state.value == "complete"
    assert mixture.candidate.recipe.kind == "mixture"
    assert mixture not in run.winners
    assert "uniform mixture" in evomerge("show", "out").stdout
    trial_id = mixture.candidate.trial_id
    assert run.ledger.finals["holdout", trial_id].evaluation is not None
    assert "answer as recorded" in evomerge("verify", "out", "--trial", str(trial_id)).stdout


TWO = ["models/model_1", "models/model_2"]
SEARCHES = {
    "layers": {"genome": {"models": TWO, "space": {"name": "layers", "edits": 2}}},
    "moe": {
        "genome": {
            "models": TWO,
            "merge_method": "linear",
            "space": {
                "name": "moe",
                "gate_mode": "random",
                "experts": [{"models": TWO}, {"models": TWO}],
            },
        }
    },
    "objectives": {"objective": "per_task", "optimizer": {"name": "nsga2", "budget": 4}},
    "stages": {
        "stages": [
            {"name": "one", "genome": {"models": TWO, "merge_method": "linear"}},
            {
                "name": "two",
                "genome": {"models": [{"stage": "one"}, "models/base"], "merge_method": "slerp"},
            },
        ]
    },
}


@pytest.mark.parametrize("search", SEARCHES)
def test_a_mixture_stands_beside_every_search_and_is_verified(workplace, evomerge, search):
    common = {"tasks": tasks_of_all_kinds(workplace), "task_search_path": ["tasks", "more"]}
    random = {"baselines": ["models", "mixture"], "optimizer": {"name": "random", "budget": 2}}
    with_genome(workplace, **common, **{**random, **SEARCHES[search]})
    if search == "stages":
        genome = yaml.safe_load((workplace / "genome.yml").read_text())
        del genome["genome"]
        (workplace / "genome.yml").write_text(yaml.safe_dump(genome))
    evomerge("run", "genome.yml", "--run-dir", "out")
    run = load_run(workplace / "out")
    assert {trial.outcome.state.value for trial in run.leaderboard.trials} == {"complete"}
    [mixture] = [t for t in run.leaderboard.trials if not t.candidate.origin.may_win]
    assert mixture not in run.winners
    trial_id = mixture.candidate.trial_id
    assert run.ledger.finals["holdout", trial_id].evaluation is not None
    told = evomerge("verify", "out", "--trial", str(trial_id)).stdout
    assert f"trial {trial_id}: all " in told
    assert "answer as recorded" in told

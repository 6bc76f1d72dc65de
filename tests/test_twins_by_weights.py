"""Two recipes that make the same weights are scored once; nearly the same ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evomerge.executors import twins
from evomerge.executors.twins import Twins
from evomerge.executors.worker import Worker
from evomerge.foundations.errors import (
    LostFileError,
    MergeError,
    SearchTimeoutError,
    TrialTimeoutError,
)
from evomerge.merging import likeness
from evomerge.merging.resident import ResidentMerger
from evomerge.nouns.evaluation import Evaluation, TrialState
from evomerge.nouns.trial import Candidate
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.old_origins import origin_in
from tests.tiny_models import tiny_family


class Counting:
    """An evaluator that finds something else every time; keeps a weight it saw."""

    def __init__(self):
        self.seen = []

    def evaluate(self, model, deadline, batch_divisor):
        self.seen.append(model.module.state_dict()["model.norm.weight"].clone())
        return Evaluation(())


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> list[Path]:
    return tiny_family(tmp_path_factory.mktemp("family"))


@pytest.fixture
def place(family):
    evaluator = Counting()
    worker = Worker(ResidentMerger(), {"tasks": evaluator, "holdout": evaluator}, None, Twins())
    return worker, evaluator


def recipe(family, first=0.0, second=0.5, method="ties", **more) -> Recipe:
    base, one, two = map(str, family)
    weights = {
        one: {"weight": first, "density": 0.5, **more},
        two: {"weight": second, "density": 1},
    }
    models = [{"model": model, "parameters": own} for model, own in weights.items()]
    return Recipe(
        {"merge_method": method, "models": models, "base_model": base, "dtype": "float32"}
    )


def scored(worker, found, split="tasks"):
    outcome, stages = ended(worker.run(Candidate(0, origin_in("optimizer"), found), split))
    assert outcome.state is TrialState.COMPLETE
    return outcome, stages


def ended(steps):
    stages = []
    while True:
        try:
            stages.append(next(steps))
        except StopIteration as end:
            return end.value, stages


def test_a_twin_gets_what_was_found_of_the_first_and_costs_no_pass(family, place):
    worker, evaluator = place
    first, _ = scored(worker, recipe(family))
    twin, stages = scored(worker, recipe(family, density=0.25))  # of a model of weight 0
    assert twin.evaluation is first.evaluation
    assert stages == ["merge"]
    assert len(evaluator.seen) == 1


def test_the_same_recipe_another_split_and_other_weights_are_scored(family, place):
    worker, evaluator = place
    scored(worker, recipe(family))
    scored(worker, recipe(family))  # somebody asks for it, to measure
    scored(worker, recipe(family, density=0.25), "holdout")
    scored(worker, recipe(family, second=0.6, method="task_arithmetic"))
    assert len(evaluator.seen) == 4


def test_a_suspect_that_differs_is_scored_with_its_own_weights(family, place, monkeypatch):
    worker, evaluator = place
    monkeypatch.setattr(likeness, "mark_of", lambda model: "all alike")
    scored(worker, recipe(family, 0.2, method="task_arithmetic"))
    scored(worker, recipe(family, 0.7, method="task_arithmetic"))
    assert len(evaluator.seen) == 2
    assert not torch.equal(*evaluator.seen)
    last = worker.merger.merge(recipe(family, 0.7, method="task_arithmetic"))
    assert torch.equal(evaluator.seen[1], last.module.state_dict()["model.norm.weight"])


GONE = (MergeError("no such tensor"), LostFileError("gone"), RuntimeError("not enough memory"))


def fails_again(monkeypatch, worker, earlier, error):
    """A recipe that was merged cannot be merged any more."""
    merge = worker.merger.merge

    def merged(recipe, *arguments):
        if recipe == earlier:
            raise error
        return merge(recipe, *arguments)

    monkeypatch.setattr(worker.merger, "merge", merged)


@pytest.mark.parametrize("error", GONE, ids=lambda error: type(error).__name__)
def test_a_twin_whose_earlier_recipe_fails_now_is_scored_itself(family, place, monkeypatch, error):
    worker, evaluator = place
    scored(worker, recipe(family))
    fails_again(monkeypatch, worker, recipe(family), error)
    for _ in range(2):
        scored(worker, recipe(family, density=0.25))
    assert len(evaluator.seen) == 3
    assert torch.equal(evaluator.seen[0], evaluator.seen[1])
    twin, _ = scored(worker, recipe(family, density=0.75))  # of the one that can be merged
    assert len(evaluator.seen) == 3
    assert twin.state is TrialState.COMPLETE


def test_time_that_is_over_while_a_twin_is_compared_is_told(family, place, monkeypatch):
    worker, _ = place
    scored(worker, recipe(family))
    fails_again(monkeypatch, worker, recipe(family), SearchTimeoutError("over"))
    steps = worker.run(Candidate(0, origin_in("optimizer"), recipe(family, density=0.25)), "tasks")
    with pytest.raises(SearchTimeoutError):
        list(steps)
    fails_again(monkeypatch, worker, recipe(family), TrialTimeoutError("took longer"))
    steps = worker.run(Candidate(0, origin_in("optimizer"), recipe(family, density=0.25)), "tasks")
    assert ended(steps)[0].state is TrialState.FAILED


def test_a_mark_tells_settings_and_weights_apart_and_a_digest_every_entry(family):
    merger = ResidentMerger()
    live = merger.merge(recipe(family))
    mark, weights = likeness.mark_of(live), likeness.weights_of(live)
    live.module.config.rope_parameters["rope_theta"] = 5.0
    assert likeness.mark_of(live) != mark
    assert likeness.weights_of(live) == weights
    with torch.no_grad():
        live.module.model.embed_tokens.weight[3, 7] += 1
    assert likeness.weights_of(live) != weights


def test_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr(twins, "KEPT", 2)
    kept = Twins()
    known = [twins.Known(Recipe({"n": n}), Evaluation(()), 1) for n in range(3)]
    for n, one in enumerate(known):
        kept.keep(("tasks", 1, str(n)), one)
    other = Recipe({})
    assert [kept.suspect(("tasks", 1, str(n)), other) for n in range(3)] == [None, *known[1:]]
    assert kept.suspect(("tasks", 1, "2"), known[2].recipe) is None

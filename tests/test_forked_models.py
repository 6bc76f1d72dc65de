"""A fork takes over what holds: nothing of a recipe whose models are others now."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from evomerge.compiler.fork import _own, _valid
from evomerge.genome.model_names import ModelName
from evomerge.nouns.evaluation import Outcome, TrialState
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.plain import Recipe

SUM = "adapters/factors-0123456789abcdef"


def taken_over(config, changed):
    trial = Trial(Candidate(0, "optimizer", Recipe(config)), Outcome(TrialState.COMPLETE, None))
    ledger = SimpleNamespace(
        trials={0: trial}, finals={}, earlier_finals={}, documents=lambda *_: ()
    )
    return len(list(_own(ledger, {model.key for model in changed})))


@pytest.mark.parametrize(
    "model",
    [ModelName(path="a"), ModelName(path="a", lora="b"), ModelName(path="odd+name", revision="v1")],
)
def test_an_outcome_holds_only_while_its_models_stay(model):
    config = {"merge_method": "linear", "models": [{"model": model.in_recipe}]}
    assert taken_over(config, []) == 1
    assert taken_over(config, [ModelName(path="other")]) == 1
    assert taken_over(config, [model]) == 0
    tokens = {"<x>": {"source": {"kind": "model_token", "model": model.in_recipe, "token": "y"}}}
    donated = {"merge_method": "linear", "tokenizer": {"source": "union", "tokens": tokens}}
    assert taken_over(donated, [model]) == 0


def test_a_sum_of_adapters_may_be_of_any_model():
    config = {"merge_method": "passthrough", "models": [{"model": f"base+{SUM}"}]}
    assert taken_over(config, []) == 1
    assert taken_over(config, [ModelName(path="other")]) == 0


MODELS = {"models": {"recipe half.yml": "built"}, "tasks": {"tasks": {}}}


@pytest.mark.parametrize(
    ("then", "now", "n_held"),
    [
        ({"inside": {"a": "1"}}, {"inside": {"a": "1"}}, 1),
        ({"inside": {"a": "1"}}, {"inside": {"a": "2"}}, 0),
        ({"inside": {"a": "1", "b": "1"}}, {"inside": {"a": "1", "b": "2"}}, 1),
        ({}, {"inside": {"a": "2"}}, 1),  # of an older version: what was built is the same
        ({}, {"inside": {"a": "2"}, "models": {"recipe half.yml": "another"}}, 0),
    ],
)
def test_an_outcome_holds_only_while_the_models_inside_its_sources_stay(then, now, n_held):
    recipe = Recipe({"merge_method": "linear", "models": [{"model": "a"}]})
    outcome = Outcome(TrialState.COMPLETE, None)
    ledger = SimpleNamespace(
        header={**MODELS, **then},
        trials={0: Trial(Candidate(0, "optimizer", recipe), outcome)},
        finals={},
        earlier_finals={},
        known={},
        documents=lambda *_: (),
    )
    assert len(list(_valid(ledger, {**MODELS, **now}))) == n_held

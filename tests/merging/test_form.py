"""Values found by a recipe's form are those that mergekit's planner resolves for the recipe."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from mergekit import merge_methods
from mergekit.merge_methods.base import BasePolicy

from evomerge.merging.form import Form
from evomerge.merging.sources import Sources
from evomerge.merging.structure import Structure
from evomerge.recipe.plain import Recipe
from tests.tiny_models import tiny_family

METHODS = ("linear", "ties", "della", "slerp")
FILTERS = ("mlp", "self_attn", "layers.1.", "layers.1", "norm", "embed", "lm_head", "*", "none")
BOUNDS = [0, 1, 4]
N_RECIPES = 5


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    models = tiny_family(tmp_path_factory.mktemp("family"), num_hidden_layers=4)
    return [str(model) for model in models]


def scalar(draw: random.Random, kind: Any) -> Any:
    if kind is bool:
        return draw.random() < 0.5
    return draw.choice([draw.uniform(-1, 2), draw.uniform(-1, 2), draw.randint(0, 1)])


def setting(draw: random.Random, kind: Any) -> Any:
    """Whatever mergekit takes: a value, a gradient, or values under filters."""

    def value() -> Any:
        if draw.random() < 0.5:
            return scalar(draw, kind)
        return [scalar(draw, kind) for _ in range(draw.randint(1, 4))]

    def filtered() -> dict[str, Any]:
        return {"filter": draw.choice(FILTERS), "value": value()}

    chosen = draw.randrange(5)
    if chosen == 0:
        return []
    if chosen == 1:
        return filtered()
    if chosen == 2:
        return [*(filtered() for _ in range(draw.randint(1, 3))), {"value": value()}]
    return value()


def settings(draw: random.Random, method: str, share: float) -> dict[str, Any]:
    spec = merge_methods.get(method).spec
    return {p.name: setting(draw, p.value_type) for p in spec.parameters if draw.random() < share}


def random_config(draw: random.Random, method: str, family: list[str]) -> dict[str, Any]:
    """Settings in every scope; those of the whole recipe have a value for everything."""
    contract = merge_methods.get(method).spec.contract
    base = family[0] if contract.base == BasePolicy.REQUIRED else None
    models = [model for model in family if model != base]
    if contract.max_inputs:
        models = models[: contract.max_inputs - (base is not None)]
    spec = merge_methods.get(method).spec
    config: dict[str, Any] = {"merge_method": method, "dtype": "float32"}
    config["parameters"] = {p.name: scalar(draw, p.value_type) for p in spec.parameters}
    if base:
        config["base_model"] = base
    if draw.random() < 0.4:
        config["models"] = [
            {"model": model, "parameters": settings(draw, method, 0.7)} for model in models
        ]
        return config
    slices = [
        {
            "sources": [
                {
                    "model": model,
                    "layer_range": [low, high],
                    "parameters": settings(draw, method, 0.5),
                }
                for model in ([base, *models] if base else models)
            ],
            "parameters": settings(draw, method, 0.5),
        }
        for low, high in pairwise(BOUNDS)
    ]
    if draw.random() < 0.5:
        config["slices"] = slices
    else:
        module = {"slices": slices, "parameters": settings(draw, method, 0.5)}
        config["modules"] = {"default": module}
    return config


def with_numbers(part: Any, change: Callable[[Any], Any]) -> Any:
    """A copy with every number of a setting changed."""
    if isinstance(part, dict):
        return {
            key: value if key == "layer_range" else with_numbers(value, change)
            for key, value in part.items()
        }
    if isinstance(part, list):
        return [with_numbers(entry, change) for entry in part]
    is_number = isinstance(part, (int, float)) and not isinstance(part, bool)
    return change(part) if is_number else part


def resolved(structure: Structure, config: dict[str, Any]) -> list[Any]:
    return [
        (tensor.name, dict(values.shared), {str(m): dict(s) for m, s in values.per_input.items()})
        for tensor, values in structure.values(Recipe(config))
    ]


def by_mergekit(config: dict[str, Any]) -> list[Any]:
    """The parameters of the tasks that mergekit plans for this very recipe."""
    tasks = [tensor.task for tensor in Structure.of(Recipe(config), Sources()).tensors]
    return [
        (
            task.output_weight.name,
            dict(task.parameters.items()),
            {str(m): dict(s.items()) for m, s in task.input_parameters.items()},
        )
        for task in tasks
    ]


def same(one: Any, other: Any) -> bool:
    """In whatever order of models; 1, 1.0 and True are told apart."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_values_of_further_recipes_are_mergekits(family: list[str], method: str) -> None:
    draw = random.Random(method)
    n_forms = 0
    for _ in range(N_RECIPES):
        first = random_config(draw, method, family)
        structure = Structure.of(Recipe(copy.deepcopy(first)), Sources())
        for change in (lambda x: x, lambda x: x * 0.7 + 0.01, lambda x: round(x)):
            config = with_numbers(first, change)
            assert same(resolved(structure, config), by_mergekit(config))
        n_forms += any(structure._finders.values())
    assert n_forms > 0


def test_a_number_where_a_switch_is_wanted_is_left_to_mergekit(family: list[str]) -> None:
    config = random_config(random.Random(0), "linear", family)
    config["parameters"] = {"weight": [0.5, "0.7"], "normalize": 1}
    structure = Structure.of(Recipe(copy.deepcopy(config)), Sources())
    assert same(resolved(structure, config), by_mergekit(config))
    assert list(structure._finders.values()) == [None]


def test_a_form_is_told_by_everything_but_the_numbers_of_parameters() -> None:
    def form(weight: Any, layers: tuple[int, int] = (0, 2), token: int = 5) -> str:
        sources = [{"model": "m", "layer_range": [*layers], "parameters": {"weight": weight}}]
        tokens = {"parameters": {"source": {"token_id": token}}}
        return Form.of({"slices": [{"sources": sources}], "tokenizer": {"tokens": tokens}}).text

    assert form(0.3) == form(2) == form(float("nan"))
    assert form([0.3, 0.4]) == form([1, 2])
    others = [form(0.3), form([0.3]), form([0.3, 1]), form(True), form("0.3"), form(False)]
    others += [form({"value": 0.3}), form({"value": 0.3, "filter": "mlp"})]
    others += [form(0.3, layers=(0, 3)), form(0.3, token=6)]
    assert len(set(others)) == len(others)

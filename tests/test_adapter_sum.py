"""Sums of adapters: names that come from what they hold, and the space of their coefficients."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evomerge.foundations.files import write_missing
from evomerge.genome.model_names import ModelName
from evomerge.recipe.adapter_sum import AdapterSum, bases_of, file_of, sum_in, sums_in, with_sums
from evomerge.recipe.plain import Recipe
from tests.contract.merge_space_cases import CASES, build

MODELS = ("org/base@v1+org/a", "org/base@v1+org/b", "org/base@v1+org/c@main")
MODEL = ModelName.model_validate("org/base")


@pytest.fixture
def merge_space():
    fields = {"models": list(MODELS), "adapters": "factors"}
    return build(CASES["factors"].model_validate({**fields, "merge_method": "linear"}))


def coefficients(merge_space, point):
    return merge_space.adapter_sum(point).coefficients


def test_a_recipe_is_the_base_with_a_name_and_the_file_says_what_it_means(merge_space):
    point = {"weight[a]": 0.5, "weight[b]": -0.25}
    recipe = merge_space.recipe(point)
    ((name, text),) = merge_space.files(point).items()
    found = sum_in(recipe)
    assert (found.path, found.revision, file_of(found.lora)) == ("org/base", "v1", name)
    assert json.loads(text) == {"models": list(MODELS), "coefficients": [0.5, -0.25, 0.75]}
    assert AdapterSum.parse(text).name == found.lora
    assert recipe.config["base_model"] == "org/base@v1"
    assert merge_space.files({}) == {}


def test_a_name_changes_with_models_and_coefficients_only(merge_space):
    one = merge_space.adapter_sum({"weight[a]": 0.1, "weight[b]": 0.2})
    again = merge_space.adapter_sum({"weight[a]": 0.1 + 1e-12, "weight[b]": 0.2})
    assert one.name == again.name
    assert len({one.name, AdapterSum(one.models, (0.1, 0.3, 0.6)).name}) == 2
    assert AdapterSum(one.models[::-1], one.coefficients).name != one.name


def test_coefficients_are_affine_and_experts_and_average_are_points(merge_space):
    for index in range(3):
        point = merge_space.source_point(index)
        decoded = merge_space.space.decode(merge_space.space.encode(point))
        assert coefficients(merge_space, decoded) == tuple(float(i == index) for i in range(3))
        assert merge_space.adapter_sum(decoded).only.text == MODELS[index]
        model = merge_space.models[index]
        assert merge_space.model_recipe(model) == merge_space.recipe(decoded)
    average = coefficients(merge_space, merge_space.average_point())
    assert average == pytest.approx((1 / 3,) * 3, abs=1e-6)
    assert coefficients(merge_space, merge_space.space.decode(np.zeros(2))) == (-1, -1, 3)
    assert coefficients(merge_space, merge_space.space.decode(np.ones(2))) == (2, 2, -3)


def test_a_range_of_the_genome_is_the_range_of_the_search():
    wide = CASES["factors"].model_dump()
    wide = {**wide, "parameters": {"weight": {"range": [-0.5, 1.5]}}}
    space = build(CASES["factors"].model_validate(wide)).space
    assert {(p.low, p.high) for p in space} == {(-0.5, 1.5)}


def test_a_sum_is_found_and_replaced_in_slices_and_models_alike(merge_space):
    recipe = merge_space.recipe(merge_space.average_point())
    model = sum_in(recipe)
    other = bases_of(recipe)
    assert sum_in(other) is None
    assert other.config["slices"][0]["sources"][0] == {
        "model": "org/base@v1",
        "layer_range": [0, 3],
    }
    listed = Recipe({"models": [{"model": model.in_recipe}, {"model": "org/x"}]})
    assert bases_of(listed).config["models"] == [
        {"model": "org/base@v1"},
        {"model": "org/x"},
    ]


@pytest.mark.parametrize(
    "part", [None, 3, "a+b+c", {"path": 1}, [], {"lora": "adapters/factors-0"}]
)
def test_a_recipe_without_a_sum_is_left_alone_whatever_it_holds(part):
    recipe = Recipe({"models": [{"model": part}], "slices": {"sources": 1}})
    assert sum_in(recipe) is None
    assert bases_of(recipe).config == recipe.config


def test_each_of_two_sums_has_a_model_of_its_own_in_its_place():
    models = tuple(map(ModelName.model_validate, MODELS))
    one, other = (AdapterSum(models, (weight, 0.5, 0.5)).model for weight in (0.1, 0.2))
    recipe = Recipe({"models": [{"model": m.in_recipe} for m in (one, other, one)]})
    assert sums_in(recipe) == (one, other)
    found = with_sums(recipe, {one: MODEL})
    assert [entry["model"] for entry in found.config["models"]] == [
        "org/base",
        other.in_recipe,
        "org/base",
    ]
    assert sums_in(bases_of(recipe)) == ()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"models": [], "coefficients": []}', '{"models": ["a"], "coefficients": []}'],
)
def test_what_is_no_sum_is_no_sum(text):
    with pytest.raises(ValueError, match=r"no sum|coefficient|Expecting"):
        AdapterSum.parse(text)


def test_files_that_are_there_are_not_written_again(tmp_path):
    write_missing(tmp_path, {"a/b.json": "one"})
    write_missing(tmp_path, {"a/b.json": "two", "c": "three"})
    assert (tmp_path / "a" / "b.json").read_text() == "one"
    assert (tmp_path / "c").read_text() == "three"

"""Merges a search begins from, and the points their recipes are read back to."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import yaml

from evomerge.compiler.seeds import seeds_of
from evomerge.errors import GenomeError
from evomerge.genome.schema import Genome
from evomerge.merge_spaces.baselines import baselines
from evomerge.merge_spaces.parameters import ParameterSpace
from evomerge.merge_spaces.reading import TOLERANCE, point_of
from evomerge.methods import METHODS
from evomerge.recipe import Recipe
from tests.contract.merge_space_cases import CASES, build, definition
from tests.recorded_runs import record_run

READABLE = sorted(n for n in CASES if isinstance(build(CASES[n]), ParameterSpace))
FILTERED = {"merge_method": "linear", "filters": ["mlp", "self_attn"], "layer_granularity": 2}


def space_of(**fields):
    method = fields.pop("merge_method")
    return build(definition(METHODS[method], **fields))


def genome_from(*names, **fields):
    data = {
        "genome": {"models": ["org/a", "org/b"], "merge_method": "linear"},
        "tasks": ["arc_easy"],
        "optimizer": {"name": "random", "seed_from": list(map(str, names))},
        **fields,
    }
    return Genome.model_validate(data)


def written(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.fixture
def merge_space():
    return space_of(merge_method="task_arithmetic")


def some_recipe(merge_space, seed=0):
    genotype = np.random.default_rng(seed).random(merge_space.space.n_dims)
    return merge_space.recipe(merge_space.space.decode(genotype))


def numbers(config):
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        return [number for part in config for number in numbers(part)]
    return [float(config)] if isinstance(config, (int, float)) else []


# Reading


@pytest.mark.parametrize("name", READABLE)
def test_the_recipe_of_a_point_is_read_back_to_it(name):
    merge_space = build(CASES[name])
    recipe = some_recipe(merge_space)
    point = point_of(merge_space, Recipe(yaml.safe_load(recipe.to_yaml())))
    assert point is not None
    again = merge_space.recipe(point)
    np.testing.assert_allclose(numbers(again.config), numbers(recipe.config), atol=TOLERANCE)


@pytest.mark.parametrize("name", ["task_arithmetic-evolve", "linear-layers", "slerp-model"])
def test_the_points_of_parents_and_average_are_read_back(name):
    merge_space = build(CASES[name])
    points = [merge_space.source_point(0), merge_space.average_point()]
    for point in filter(None, points):
        assert point_of(merge_space, merge_space.recipe(point)) == pytest.approx(point, abs=1e-4)


def broken_recipes():
    def without_filters(config):
        for slice_ in config["slices"]:
            for source in slice_["sources"]:
                source["parameters"]["weight"] = [{"filter": "norm", "value": 0.5}, {"value": 0.5}]

    def with_a_text_among_filters(config):
        config["slices"][0]["sources"][0]["parameters"]["weight"].append("mlp")

    def without_weight(config):
        for slice_ in config["slices"]:
            for source in slice_["sources"]:
                for entry in source["parameters"]["weight"]:
                    entry["value"] = 0.0

    def with_a_text_for_a_number(config):
        config["slices"][0]["sources"][0]["parameters"]["weight"][0]["value"] = "a lot"

    def without_slices(config):
        del config["slices"]

    def with_no_slices(config):
        config["slices"] = None

    def with_other_method(config):
        config["merge_method"] = "ties"

    def with_other_dtype(config):
        config["dtype"] = "bfloat16"

    def with_a_model_less(config):
        config["slices"][0]["sources"].pop()

    return [value for value in locals().values() if callable(value)]


@pytest.mark.parametrize("change", broken_recipes(), ids=lambda change: change.__name__)
def test_a_recipe_that_is_no_point_has_none(change):
    merge_space = space_of(**FILTERED)
    recipe = some_recipe(merge_space)
    config = copy.deepcopy(dict(recipe.config))
    assert point_of(merge_space, Recipe(copy.deepcopy(config))) is not None
    change(config)
    assert point_of(merge_space, Recipe(config)) is None


def test_values_outside_the_range_are_no_point(merge_space):
    config = copy.deepcopy(dict(some_recipe(merge_space).config))
    config["models"][0]["parameters"]["weight"] = 7.0
    assert point_of(merge_space, Recipe(config)) is None


def test_pairs_of_models_are_not_read(merge_space):
    pairs = build(CASES["slerp-three"])
    assert point_of(pairs, some_recipe(pairs)) is None


# Seeds


def test_a_recipe_that_is_a_point_has_its_genotype(tmp_path, merge_space):
    recipe = some_recipe(merge_space)
    path = written(tmp_path / "winner.yml", recipe.to_yaml())
    (seed,) = seeds_of(genome_from(path), merge_space)
    assert seed.recipe.digest == recipe.digest
    assert seed.trial_id == len(baselines(merge_space))
    assert seed.origin == f"seed {path}"
    assert seed.is_baseline
    assert seed.label == ""
    expected = np.random.default_rng(0).random(merge_space.space.n_dims)
    np.testing.assert_allclose(seed.genotype, expected, atol=TOLERANCE)
    assert merge_space.recipe(seed.point).digest == recipe.digest


def test_a_recipe_of_another_shape_is_tried_as_it_is(tmp_path, merge_space):
    model = merge_space.definition.models[0].model.in_recipe
    config = {"merge_method": "linear", "models": [{"model": model}], "dtype": "float32"}
    (seed,) = seeds_of(genome_from(written(tmp_path / "other.yml", config)), merge_space)
    assert seed.recipe == Recipe(config)
    assert seed.genotype is None
    assert seed.point == {}


def test_a_recipe_of_other_models_is_refused(tmp_path, merge_space):
    config = {"merge_method": "linear", "models": [{"model": "org/x"}], "dtype": "float32"}
    with pytest.raises(GenomeError, match=r"merges models that this genome does not: org/x"):
        seeds_of(genome_from(written(tmp_path / "other.yml", config)), merge_space)


def test_of_a_run_it_is_the_best_few_and_of_a_best_yml_its_recipe(tmp_path):
    models = {"models": ["experts/sort", "experts/twice"], "base_model": "experts/base"}
    merge_space = space_of(merge_method="task_arithmetic", **models)
    run = record_run(tmp_path / "before")
    best = tmp_path / "before" / "best.yml"
    genome = genome_from(tmp_path / "before", best, finalists=3)
    *few, winner = seeds_of(genome, merge_space)
    ranked = [t for t in run.standing.ranked() if not t.candidate.is_baseline][:3]
    assert [seed.recipe.digest for seed in few] == [t.candidate.recipe.digest for t in ranked]
    assert [seed.origin for seed in few] == [
        f"seed {tmp_path / 'before'}, trial {trial.candidate.trial_id}" for trial in ranked
    ]
    assert winner.recipe.config == yaml.safe_load(best.read_text())["recipe"]
    first = len(baselines(merge_space))
    assert [seed.trial_id for seed in (*few, winner)] == [*range(first, first + 4)]


def test_what_cannot_be_a_seed_is_told_all_at_once(tmp_path, merge_space):
    (tmp_path / "empty").mkdir()
    names = [
        tmp_path / "missing.yml",
        tmp_path / "empty",
        written(tmp_path / "list.yml", "[1, 2]\n"),
        written(tmp_path / "genome.yml", {"genome": {}}),
        written(tmp_path / "broken.yml", "merge_method: [linear\n"),
        written(tmp_path / "nan.yml", "merge_method: linear\nparameters: {weight: .nan}\n"),
    ]
    with pytest.raises(GenomeError, match="is no run folder") as caught:
        seeds_of(genome_from(*names), merge_space)
    problems = caught.value.problems
    assert {problem.where for problem in problems} == {"optimizer.seed_from"}
    for name in names:
        assert sum(str(name) in problem.what for problem in problems) == 1, name


def test_without_seeds_there_are_none(merge_space):
    assert seeds_of(genome_from(), merge_space) == []

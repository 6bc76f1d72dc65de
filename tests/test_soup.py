"""Model soups: which of several models are in a uniform average."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import yaml

from evomerge.compiler.chosen_space import with_space
from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import validate_genome
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.schema import Genome
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces.baselines import baselines
from evomerge.optimizers import OPTIMIZERS
from evomerge.recipe.plain import Recipe
from tests.contract.merge_space_cases import LLAMA, build

MODELS = ["org/a", "org/b", "org/c"]


def soup(architecture=LLAMA, **fields):
    block = {"models": MODELS, "space": "soup", **fields}
    return build(MergeDefinition.model_validate(block), architecture)


def named(recipe):
    return [entry["model"] for entry in recipe.config["models"]]


def test_a_point_is_the_uniform_average_of_the_models_that_are_in():
    merge_space = soup()
    for chosen in itertools.product(("in", "out"), repeat=3):
        names = [parameter.name for parameter in merge_space.space]
        recipe = merge_space.recipe(dict(zip(names, chosen, strict=True)))
        inside = [model for model, one in zip(MODELS, chosen, strict=True) if one == "in"]
        assert named(recipe) == (inside or MODELS)  # nobody averages nothing
        assert {entry["parameters"]["weight"] for entry in recipe.config["models"]} == {1.0}
        assert recipe.config["parameters"] == {"normalize": True}
        assert recipe.config["base_model"] == named(recipe)[0]
        point = merge_space.point_of(Recipe(yaml.safe_load(recipe.to_yaml())))
        assert merge_space.recipe(point).digest == recipe.digest


def test_a_search_starts_at_the_soup_of_all_and_knows_each_model_alone():
    merge_space = soup(base_model="org/base")
    start = merge_space.space.decode(merge_space.space.initial)
    assert start == merge_space.average_point()
    assert [named(merge_space.recipe(merge_space.source_point(i))) for i in range(3)] == [
        [model] for model in MODELS
    ]
    first = {str(c.origin): c for c in baselines(merge_space)}
    average = first["uniform average"]
    assert merge_space.recipe(average.point).digest == average.recipe.digest
    assert all(first[f"model {model}"].genotype is not None for model in MODELS)
    assert first["base org/base"].genotype is None
    among = soup(base_model="org/b")
    assert among.base_point() == among.source_point(1)


def test_the_recipe_of_another_average_is_no_soup():
    merge_space = soup()
    config = dict(merge_space.recipe(merge_space.average_point()).config)
    unequal = [{**entry} for entry in config["models"]]
    unequal[0]["parameters"] = {"weight": 0.5}
    for change in ({"models": unequal}, {"merge_method": "ties"}, {"models": []}):
        assert merge_space.point_of(Recipe({**config, **change})) is None


def test_where_all_models_are_equal_nothing_is_searched():
    names = [source.model for source in soup().definition.models]
    alike = {tensor: dict.fromkeys(names, 0) for tensor in LLAMA.tensors}
    merge_space = soup(replace(LLAMA, alike=alike))
    assert merge_space.space.n_dims == 0
    assert len(merge_space.idle) == 3
    assert named(merge_space.recipe(merge_space.source_point(0))) == MODELS


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ("models: [a], space: soup", "genome.models: a soup chooses among two models or more"),
        ("models: [a, b], space: soup, granularity: layer", "genome.granularity: space soup does"),
        ("models: [a, b], space: soup, merge_method: ties, base_model: c", "got ties"),
        ("models: [a, b], space: soup, tokenizer_source: base", "genome.tokenizer_source: models"),
        ("models: [{model: a, parameters: {weight: 1}}, b], space: soup", "no settings of one"),
    ],
)
def test_what_no_soup_reads_is_refused(block, sentence):
    source = parse_yaml(f"genome: {{{block}}}\ntasks: [x]\n", "g.yml")
    with pytest.raises(GenomeError, match=sentence):
        with_space(validate_genome(source), source)


TAKERS = [n for n in OPTIMIZERS if not OPTIMIZERS[n].continuous_only and n not in ("auto", "llm")]


@pytest.mark.parametrize("name", TAKERS)
def test_every_optimizer_that_chooses_finds_soups(name):
    merge_space = soup()
    optimizer = OPTIMIZERS[name](merge_space.space, seed=0)
    seen = set()
    for _ in range(6):
        genotypes = optimizer.ask()
        recipes = [merge_space.recipe(merge_space.space.decode(one)) for one in genotypes]
        seen |= {tuple(named(recipe)) for recipe in recipes}
        optimizer.tell(genotypes, np.array([[float(len(named(one)))] for one in recipes]))
    assert len(seen) > 1


def test_gradient_says_that_nothing_can_be_learned():
    data = {"genome": {"models": MODELS, "space": "soup"}, "tasks": ["x"]}
    source = parse_yaml(yaml.safe_dump(data), "g.yml")
    genome = with_space(Genome.model_validate(data), source)
    kind = OPTIMIZERS["gradient"]
    found = [one.what for one in kind.obstacles(soup().space, genome, kind.Settings())]
    assert any(what.startswith("a model is in a soup or left out of it (space") for what in found)
    assert soup().learnable() is None

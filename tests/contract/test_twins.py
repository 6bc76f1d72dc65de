"""Points that make the same weights, because a model has weight 0 there, are one recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from evomerge.genome.merge_method import Unmoved
from evomerge.genome.methods import METHODS
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from tests.contract.merge_space_cases import LAYOUTS, build, definition, opened
from tests.tiny_models import tiny_family

SPARSE = [
    m.name
    for m in METHODS.values()
    if m.unmoved is not Unmoved.COUNTS
    and any(p.name == "density" and p.searched for p in m.parameters)
]
PLAIN = ("evolve", "evolve-smooth", "layers", "tensor")


def points(space: Any, weight: float) -> Any:
    """Two recipes: the first model has a weight, and everything else of it is at either end."""
    for end in (0.0, 1.0):
        genotype = np.full(space.space.n_dims, 0.5)
        for index, parameter in enumerate(space.space):
            name, _, place = parameter.name.partition("[")
            if place.startswith("model_0"):
                genotype[index] = weight if name in ("weight", "share") else end
        yield space.recipe(space.space.decode(genotype))


@pytest.mark.parametrize("layout", PLAIN)
@pytest.mark.parametrize("name", SPARSE)
def test_what_is_said_of_a_model_of_weight_0_makes_no_other_recipe(name, layout):
    method = METHODS[name]
    numbers = {name: given for name, given in opened(method).items() if "choice" not in given}
    space = build(definition(method, parameters=numbers, **LAYOUTS[layout]))
    first, second = points(space, 0.0)
    assert first == second
    first, second = points(space, 0.3)
    assert first != second


def test_only_the_places_where_the_weight_is_0_are_silent():
    space = build(definition(METHODS["dare_linear"], **LAYOUTS["layers"]))
    genotype = np.full(space.space.n_dims, 0.5)
    names = [parameter.name for parameter in space.space]
    genotype[names.index("weight[model_0, embeddings]")] = 0.0
    recipes = []
    for place in ("embeddings", "layers 0-1"):
        moved = genotype.copy()
        moved[names.index(f"density[model_0, {place}]")] = 0.9
        recipes.append(space.recipe(space.space.decode(moved)))
    unmoved = space.recipe(space.space.decode(genotype))
    assert recipes[0] == unmoved
    assert recipes[1] != unmoved


@pytest.mark.parametrize("name", SPARSE)
def test_a_density_is_silent_only_where_all_weights_that_it_reaches_are_0(name):
    filtered = [{"filter": text, "range": [0, 1]} for text in ("self_attn", "mlp", None)]
    given = [{k: v for k, v in entry.items() if v is not None} for entry in filtered]
    space = build(definition(METHODS[name], normalize=False, parameters={"weight": given}))
    own = [p.name for p in space.space if p.name.startswith("weight[model_0")]
    assert len(own) == 3
    density = next(p.name for p in space.space if p.name.startswith("density[model_0"))

    def recipe(end: float, *zeros: str) -> Recipe:
        genotype = np.full(space.space.n_dims, 0.5)
        for index, parameter in enumerate(space.space):
            genotype[index] = {density: end, **dict.fromkeys(zeros, 0.0)}.get(parameter.name, 0.5)
        return space.recipe(space.space.decode(genotype))

    for zeros in (own[:1], own[1:], own[-1:]):
        assert recipe(0.1, *zeros) != recipe(0.9, *zeros)
    assert recipe(0.1, *own) == recipe(0.9, *own)


@pytest.mark.parametrize("name", SPARSE)
def test_mergekit_makes_the_same_of_a_model_of_weight_0_whatever_is_said_of_it(name, tmp_path):
    base, one, two = map(str, tiny_family(tmp_path))
    merger = ResidentMerger(engine="reference")
    merged = []
    for density in (0.3, 0.7):
        parameters = {"weight": 0.0, "density": density}
        sources = [
            {"model": one, "parameters": parameters},
            {"model": two, "parameters": {"weight": 0.8, "density": 0.5}},
        ]
        rest = {"base_model": base, "dtype": "float32"}
        module = merger.merge(Recipe({"merge_method": name, "models": sources, **rest})).module
        merged.append({n: tensor.clone() for n, tensor in module.state_dict().items()})
    assert all(torch.equal(merged[0][n], merged[1][n]) for n in merged[0])


def test_a_pair_at_an_end_is_one_model_whoever_the_other_is(tmp_path):
    folders = tiny_family(tmp_path, n_models=3)[1:]
    fields = {"models": list(map(str, folders)), "layer_granularity": 2}
    space = build(definition(METHODS["slerp"], **{**fields, "base_model": str(folders[0])}))
    places = [p.name.partition("[")[2] for p in space.space][::2]

    def recipe(pair: str, t: float) -> Recipe:
        return space.recipe({f"{n}[{p}": v for p in places for n, v in (("pair", pair), ("t", t))})

    ends = {
        recipe("model_1 - model_2", 1.0),
        recipe("model_2 - model_3", 0.0),
        recipe("model_1 - model_2", 1.0 - 1e-9),
    }
    assert len(ends) == 1
    assert recipe("model_2 - model_3", 0.1) != recipe("model_1 - model_2", 0.9)
    assert len({recipe("model_1 - model_3", 1.0), recipe("model_2 - model_3", 1.0)}) == 1

"""A weight for each tensor of any space, as a plain recipe."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from evomerge.merge_spaces.parameter_space import ParameterSpace
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from evomerge.training.coefficients import Coefficients
from evomerge.training.tensor_mixture import TensorMixture
from tests.thinned import thinned
from tests.training.test_mixture import METHODS, gradient_at, slopes
from tests.training.test_trainer import trainer_of
from tests.training.tiny_mixtures import LAYOUTS, Family

PLACES = [
    *((method, "groups", False) for method in METHODS),
    *(("arithmetic", layout, False) for layout in LAYOUTS if layout not in ("groups", "tensors")),
    ("shares", "smooth", True),
]


def mixture_of(space):
    merger = ResidentMerger(cache_bytes=0)
    return TensorMixture(merger, Coefficients(space), Coefficients(space.by_tensor()))


def held_at(mixture, values):
    return {k: v.clone() for k, v in mixture.at(values).module.state_dict().items()}


def assert_same(held, model):
    for name, tensor in model.module.state_dict().items():
        torch.testing.assert_close(held[name], tensor, rtol=0, atol=1e-6)


def moved(mixture, values):
    steps = np.random.default_rng(2).uniform(-0.1, 0.1, len(values))
    return mixture.trained.settled(values + steps)


@pytest.mark.parametrize(("method", "layout", "tied"), thinned(PLACES))
def test_it_begins_at_the_model_of_a_genotype_and_ends_at_the_nearest_one(
    family, method, layout, tied
):
    space = family.space(tied=tied, **METHODS[method], **LAYOUTS[layout])
    mixture = mixture_of(space)
    genotype = np.random.default_rng(1).uniform(0.3, 0.7, space.space.n_dims)
    values = mixture.trained.of(genotype)
    assert len(values) > space.space.n_dims
    start = ResidentMerger(cache_bytes=0).merge(space.recipe(space.space.decode(genotype)))
    assert_same(held_at(mixture, values), start)
    np.testing.assert_allclose(mixture.trained.genotype(values), genotype, atol=1e-9)

    far = moved(mixture, values)
    recipe = Recipe(json.loads(json.dumps(mixture.config(far))))
    assert_same(held_at(mixture, far), ResidentMerger(cache_bytes=0).merge(recipe))
    assert len(str(recipe.config).split("'filter'")) > 8
    assert not np.array_equal(mixture.trained.genotype(far), genotype)


def test_checkpoints_with_buffers_have_weights_of_tensors_too(family):
    space = family.space(architecture="gpt_neox", granularity="layer")
    mixture = mixture_of(space)
    genotype = np.random.default_rng(1).uniform(0.3, 0.7, space.space.n_dims)
    values = mixture.trained.of(genotype)
    start = ResidentMerger(cache_bytes=0).merge(space.recipe(space.space.decode(genotype)))
    assert_same(held_at(mixture, values), start)
    np.testing.assert_allclose(mixture.trained.genotype(values), genotype, atol=1e-9)


def test_the_nearest_genotype_has_the_mean_of_a_groups_tensors(family):
    space = family.space()
    mixture = mixture_of(space)
    values = moved(mixture, mixture.trained.of(space.space.initial))
    point = space.space.decode(mixture.trained.genotype(values))
    weights = mixture.reach.weights(torch.from_numpy(values))
    np.testing.assert_allclose([*point.values()], weights.mean(dim=0), atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["arithmetic", "normalized", "affine"])
def test_gradients_are_slopes(family, method):
    mixture = mixture_of(family.space(**METHODS[method]))
    values = moved(mixture, mixture.trained.of(mixture.trained._space._space.space.initial))
    found = gradient_at(mixture, values)
    np.testing.assert_allclose(found, slopes(mixture, values), rtol=2e-2, atol=1e-3)


def test_each_tensor_stays_in_the_range_of_its_place(family):
    ranges = [
        {"filter": "layers.1.", "range": [0.1, 0.9]},
        {"filter": "mlp", "value": 0.5},
        {"range": [-0.5, 1.5], "initial": [0.2, 0.4, 0.6]},
    ]
    space = family.space(parameters={"weight": ranges})
    finer = space.by_tensor()
    bounds = {p.name: (p.low, p.high) for p in finer.space}
    assert {bound for name, bound in bounds.items() if "layer 1" in name} == {(0.1, 0.9)}
    assert {bound for name, bound in bounds.items() if "layer 1" not in name} == {(-0.5, 1.5)}
    assert any("layer 1, mlp" in name for name in bounds)
    assert not any("layer 0, mlp" in name for name in bounds)
    mixture = mixture_of(space)
    far = mixture.trained.settled(mixture.trained.of(space.space.initial) + 9)
    assert set(far) == {0.9, 1.5}
    assert "{'filter': 'mlp.up_proj', 'value': 0.5}" in str(mixture.config(far))


def test_tensors_that_are_equal_in_all_models_have_no_weight_and_say_nothing(family):
    space = family.space()
    definition = space.definition
    models = [definition.base_model, *(source.model for source in definition.models)]
    equal = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight")
    one = "model.layers.1.mlp.up_proj.weight"
    alike = {name: dict.fromkeys(models, 0) for name in equal}
    alike[one] = {model: 0 if index < 2 else index for index, model in enumerate(models)}
    known = replace(space.architecture, alike=alike)
    some = ParameterSpace(definition, known, "float32")
    assert some.space.n_dims == space.space.n_dims == 3
    all_, fewer = space.by_tensor(), some.by_tensor()
    assert all_.space.n_dims - fewer.space.n_dims == 3 * 2 + 1
    mixture = mixture_of(some)
    values = np.full(fewer.space.n_dims, 0.7)
    point = some.space.decode(mixture.trained.genotype(values))
    np.testing.assert_allclose([*point.values()], 0.7)


def test_tied_embeddings_have_one_weight(family):
    n_dims = [family.space(tied=tied).by_tensor().space.n_dims for tied in (False, True)]
    assert n_dims[0] - n_dims[1] == 3


def test_an_epoch_is_a_recipe_and_the_next_goes_on_from_it(family: Family):
    space = family.space(granularity="layer")
    mixture = mixture_of(space)
    trainer = trainer_of(mixture, epochs=2, batch_size=4, losses={"nll": 1, "overlap": 0.1})
    first = trainer.epoch(0, space.space.initial, None, 0)
    second = trainer.epoch(1, space.space.initial, first.state, 1)
    assert first.folder is None
    assert first.config != second.config
    assert second.losses["nll"] < first.losses["nll"]
    assert_same(held_at(mixture, mixture.trained.of(space.space.initial)), mixture.of(
        space.recipe(space.space.decode(space.space.initial))
    ))  # fmt: skip

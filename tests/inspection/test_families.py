"""mergekit's families, read from its files, are what mergekit itself says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mergekit.architecture import arch_info_for_config
from mergekit.architecture.json_definitions import NAME_TO_ARCH

from evomerge.models.conversion import unconvertible
from evomerge.models.facts import ModelFacts, TensorFacts
from evomerge.models.families import family_of, known_architectures
from evomerge.models.family import layers_by_names
from evomerge.models.native import is_native

N_LAYERS = 3
CONFIG = {"num_hidden_layers": N_LAYERS, "n_layer": N_LAYERS}
TENSOR = TensorFacts((1,), "F32", 4)
TYPES = [(name, one.expected_model_type) for name, all in NAME_TO_ARCH.items() for one in all]


def model_of(name, model_type, **config):
    content = {**CONFIG, "architectures": [name], "model_type": model_type, **config}
    tensors = {f"model.layers.{index}.x": TENSOR for index in range(N_LAYERS)}
    return ModelFacts(config=content, tensors=tensors)


@pytest.mark.parametrize(("name", "model_type"), TYPES)
def test_a_family_is_mergekits(name, model_type):
    model = model_of(name, model_type, num_experts=2, n_routed_experts=2, first_k_dense_replace=1)
    family = family_of(model)
    config = SimpleNamespace(**model.config)
    theirs = arch_info_for_config(config)
    assert family is not None
    if len(theirs.modules) > 1:
        assert tuple(family.parts) == tuple(theirs.modules)
        return
    expected = {
        (w.name, w.vocabulary_axis, (*(w.aliases or ()), *(w.tied_names or ())))
        for w in theirs.all_weights(config)
    }
    got = {(w.name, w.vocabulary_axis, w.others) for w in family.weights(family.n_layers(model))}
    if name == "Glm4MoeForCausalLM":  # some layers differ; ours are optional in all of them
        assert {name for name, *_ in expected} <= {name for name, *_ in got}
        return
    assert got == expected
    optional = {w.name for w in theirs.all_weights(config) if w.optional}
    assert {w.name for w in family.weights(N_LAYERS) if w.is_optional} == optional


def test_every_architecture_is_known():
    assert {name for name, _ in TYPES} <= set(known_architectures())
    assert family_of(model_of("Zebra", "zebra")) is None


def test_one_name_with_several_families_is_told_apart_by_its_type():
    several = [name for name, all in NAME_TO_ARCH.items() if len(all) > 1]
    for name in several:
        assert family_of(model_of(name, "none of them")) is None


def test_layers_are_counted_by_name_where_the_configuration_is_silent():
    model = model_of("LlamaForCausalLM", "llama", num_hidden_layers=None)
    family = family_of(model)
    assert family is not None
    assert family.n_layers(model) == N_LAYERS


def test_experts_that_mergekit_fuses_are_not_missing():
    experts = {f"model.layers.0.mlp.experts.{i}.gate_proj.weight": TENSOR for i in range(2)}
    ups = {name.replace("gate", "up"): TENSOR for name in experts}
    model = ModelFacts(config={"model_type": "qwen3_moe"}, tensors={**experts, **ups})
    fused = "model.layers.0.mlp.experts.gate_up_proj"
    assert unconvertible(model, [fused, "model.norm.weight"]) == ["model.norm.weight"]


def test_transformers_is_asked_which_types_it_knows():
    assert is_native("llama")
    assert not is_native("zebra")


def test_layers_are_counted_in_the_largest_stack_alone():
    of = {
        "model.layers.{}.mlp.weight": (2, 100),
        "visual.blocks.{}.mlp.weight": (5, 10),
        "visual.merger.mlp.{}.weight": (7, 1),
    }
    tensors = {
        name.format(index): TensorFacts((size,), "F32", 4 * size)
        for name, (count, size) in of.items()
        for index in range(count)
    }
    experts = {f"model.layers.1.experts.{i}.weight": TENSOR for i in range(9)}
    assert layers_by_names(ModelFacts(tensors={**tensors, **experts})) == 2
    assert layers_by_names(ModelFacts(tensors={"model.norm.weight": TENSOR})) == 0

"""Every tensor of every source is merged, carried over or left out, and never two of these."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from evomerge.genome.model_names import ModelName
from evomerge.merging.build import build
from evomerge.models.facts import ModelFacts, TensorFacts
from evomerge.models.inspect import read_model
from evomerge.recipe.plain import Recipe
from evomerge.recipe.tensor_account import accounts_of
from tests.tiny_models import tiny_family, tiny_model

EXTRA = (
    "model.layers.0.self_attn.rotary_emb.inv_freq",
    "model.layers.7.input_layernorm.weight",  # deeper than the configuration says
    "score.weight",
    "mtp.0.norm.weight",
    "model.norm.bias",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tiny_family(tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="module")
def models(folders):
    return [read_model(ModelName(path=str(folder))) for folder in folders]


def whole(folders):
    entries = [{"model": str(folder), "parameters": {"weight": 0.5}} for folder in folders]
    return Recipe({"merge_method": "linear", "models": entries})


def stack(*slices):
    entries = [
        {"sources": [{"model": str(folder), "layer_range": list(layers)}]}
        for folder, layers in slices
    ]
    return Recipe({"merge_method": "passthrough", "slices": entries})


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    st.lists(st.sets(st.sampled_from(EXTRA)), min_size=3, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=3),
)
def test_every_name_is_in_exactly_one_place(folders, models, extras, stacked):
    given_models = [
        replace(
            one, tensors={**one.tensors, **dict.fromkeys(extra, TensorFacts((1,), "BF16", 2, "x"))}
        )
        for one, extra in zip(models, extras, strict=True)
    ]
    slices = [(folders[index], (layer, layer + 1)) for index, layer in stacked]
    recipe = stack(*slices) if slices else whole(folders)
    accounts = [*accounts_of(recipe, given_models)]
    assert len(accounts) == len(given_models)
    for account, model, extra in zip(accounts, given_models, extras, strict=True):
        places = [account.merged, account.carried_over.keys(), account.left_out.keys()]
        assert sum(map(len, places)) == len(model.tensors)
        assert set().union(*places) == model.tensors.keys()
        assert extra <= account.left_out.keys()
        assert all(account.left_out.values())


@pytest.mark.parametrize(
    "architecture", ["llama", pytest.param("gpt_neox", marks=pytest.mark.slow)]
)
def test_what_is_merged_and_carried_over_is_what_mergekit_writes(tmp_path, architecture):
    folder = tiny_model(tmp_path / "model", architecture)
    recipe = whole([folder])
    (account,) = accounts_of(recipe, [read_model(ModelName(path=str(folder)))])
    build(recipe, tmp_path / "built", threads=1)
    with safe_open(tmp_path / "built" / "model.safetensors", "pt") as built:
        assert {*built.keys()} == account.merged | account.carried_over.keys()
    assert bool(account.carried_over) == (architecture == "gpt_neox")


def test_layers_and_ends_that_no_slice_reads_are_named(folders, models):
    recipe = stack((folders[0], (0, 2)), (folders[1], (1, 2)))
    first, second, third = accounts_of(recipe, models)
    whys = set(first.left_out.values())
    assert whys == {"the recipe reads what is before and after the layers from other models"}
    assert {*first.left_out} == {"lm_head.weight", "model.norm.weight"}
    assert {name for name in second.left_out if ".layers." in name} == {
        name for name in models[1].tensors if ".layers.0." in name
    }
    assert not third.merged
    (sentence,) = third.sentences
    assert sentence == (
        f"21 tensors of {folders[2]} are left out: the recipe reads only its configuration and "
        "tokens (lm_head.weight, model.embed_tokens.weight, model.layers.0.input_layernorm.weight, "
        "...)"
    )


def test_a_tensor_beside_the_one_that_mergekit_takes_is_left_out():
    names = ("transformer.wte.weight", "wte.weight", "wpe.weight")
    model = ModelFacts(
        name="m",
        reference="m",
        tensors=dict.fromkeys(names, TensorFacts((1,), "F32", 4)),
        config={"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 1},
    )
    (account,) = accounts_of(whole(["m"]), [model])
    assert account.merged == {"transformer.wte.weight", "wpe.weight"}
    assert account.left_out == {"wte.weight": "mergekit takes transformer.wte.weight in its place"}


def test_experts_that_mergekit_joins_are_merged():
    names = [
        f"model.layers.0.mlp.experts.{index}.{part}_proj.weight"
        for index in range(2)
        for part in ("gate", "up", "down")
    ]
    config = {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "num_hidden_layers": 1,
        "num_experts": 2,
    }
    tensors = dict.fromkeys((*names, "more.weight"), TensorFacts((1,), "F32", 4))
    model = ModelFacts(name="m", reference="m", tensors=tensors, config=config)
    (account,) = accounts_of(whole(["m"]), [model])
    assert account.merged == {*names}
    assert {*account.left_out} == {"more.weight"}

"""Every tensor of every source is merged, carried over or left out, and never two of these."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from evomerge.genome.model_names import ModelName
from evomerge.merging.build import build
from evomerge.models.facts import AdapterFacts, ModelFacts, TensorFacts
from evomerge.models.inspect import read_model
from evomerge.recipe.accounting import accounts_of
from evomerge.recipe.plain import Recipe
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


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
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
        f"21 tensors of {folders[2]} are left out: the recipe does not name this model "
        "(lm_head.weight, model.embed_tokens.weight, model.layers.0.input_layernorm.weight, "
        "...)"
    )


def test_a_model_that_gives_tokens_alone_is_told_so(folders, models):
    config = {**stack((folders[0], (0, 2))).config, "tokenizer_source": str(folders[2])}
    *_, third = accounts_of(Recipe(config), models)
    assert {*third.left_out.values()} == {"the recipe reads only its configuration and tokens"}


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


def stages(*documents, last):
    named = [{"name": f"stage-{index}", **one} for index, one in enumerate(documents)]
    return Recipe({"stages": [*named, last]})


def test_what_a_stage_makes_counts_as_far_as_a_later_one_reads_it(folders, models):
    first = stack((folders[0], (0, 2)), (folders[1], (1, 2))).config
    name = stages(first, last=first).made[0]
    slices = [
        {"sources": [{"model": str(folders[2]), "layer_range": [0, 1]}]},
        {"sources": [{"model": name, "layer_range": [1, 3]}]},
    ]
    recipe = stages(first, last={"merge_method": "passthrough", "slices": slices})
    one, two, three = accounts_of(recipe, models)
    assert layers_in(one.merged) == {1}
    assert "model.embed_tokens.weight" in one.left_out
    assert layers_in(two.merged) == {1}
    assert "lm_head.weight" in two.merged
    assert layers_in(three.merged) == {0}
    assert "lm_head.weight" in three.left_out
    for account, model in zip((one, two, three), models, strict=True):
        assert {*account.merged, *account.left_out} == model.tensors.keys()


def layers_in(names):
    return {int(name.split(".")[2]) for name in names if ".layers." in name}


def test_all_members_of_a_mixture_are_used(folders, models):
    members = [
        {"model": str(folders[0]), "weight": 0.5},
        {"recipe": whole(folders[1:]).config, "weight": 0.5},
    ]
    for account, model in zip(
        accounts_of(Recipe({"mixture": members}), models), models, strict=True
    ):
        assert account.merged == model.tensors.keys()


def test_experts_of_a_mixture_give_their_mlps_and_the_base_the_rest(folders, models):
    merge = {"name": stages(whole(folders).config, last={}).made[0], **whole(folders[1:]).config}
    joined = {
        "base_model": str(folders[0]),
        "gate_mode": "random",
        "experts": [{"source_model": merge["name"]}, {"source_model": str(folders[1])}],
    }
    base, *experts = accounts_of(Recipe({"merges": [merge], "moe": joined}), models)
    mlps = {name for name in models[0].tensors if ".mlp." in name}
    assert base.merged == models[0].tensors.keys() - mlps
    assert {*base.left_out.values()} == {"mergekit-moe takes MLPs of experts alone"}
    for account in experts:
        assert account.merged == mlps
        assert {*account.left_out.values()} == {"mergekit-moe takes all but the MLPs from the base"}


def test_biases_that_mergekit_moe_drops_are_left_out():
    names = ("model.layers.0.mlp.up_proj.bias", "model.layers.0.self_attn.q_proj.bias")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": 1,
        "attention_bias": True,
    }
    tensors = dict.fromkeys((*names, "model.norm.weight"), TensorFacts((1,), "F32", 4))
    model = ModelFacts(name="m", reference="m", tensors=tensors, config=config)
    joined = {"base_model": "m", "gate_mode": "random", "experts": [{"source_model": "m"}] * 2}
    (account,) = accounts_of(Recipe({"merges": [], "moe": joined}), [model])
    assert account.merged == {"model.norm.weight"}
    assert {*account.left_out} == {*names}


def test_an_adapter_goes_with_the_tensors_that_it_changes(folders, models):
    prefix = "base_model.model.model.layers"
    adapter = AdapterFacts(
        name="expert",
        tensors=dict.fromkeys(
            (
                *(
                    f"{prefix}.{i}.self_attn.q_proj.lora_{one}.weight"
                    for i in (0, 1)
                    for one in "AB"
                ),
                f"{prefix}.9.self_attn.q_proj.lora_A.weight",
                "base_model.model.lm_head.modules_to_save.weight",
                "base_model.model.model.embed_tokens.lora_embedding_A",
            ),
            TensorFacts((1,), "F32", 4),
        ),
    )
    reference = f"{folders[0]}+expert"
    model = replace(models[0], reference=reference, name=reference, adapter=adapter)
    slices = [{"sources": [{"model": reference, "layer_range": [0, 1]}]}]
    recipe = Recipe({"merge_method": "passthrough", "slices": slices})
    _, account = accounts_of(recipe, [model])
    assert account.model == "expert"
    assert {name.removeprefix("base_model.model.") for name in account.merged} == {
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.lora_B.weight",
        "lm_head.modules_to_save.weight",
        "model.embed_tokens.lora_embedding_A",
    }
    assert {*account.left_out.values()} == {
        "the recipe reads no such layer of this model",
        "it changes no tensor of its model",
    }
    summed = {"path": str(folders[0]), "lora": "adapters/factors-0123456789abcdef"}
    own = {"model": {"model": summed["path"], "lora": summed["lora"]}, "layer_range": [0, 2]}
    recipe = Recipe({"merge_method": "passthrough", "slices": [{"sources": [own]}]})
    of_model, account = accounts_of(recipe, [model])
    assert of_model.merged == models[0].tensors.keys()
    assert len(account.left_out) == 1

"""Searching mixtures of experts: what varies, what it means, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml

from evomerge.compiler.genome_file import read_genomes
from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from evomerge.models.architecture import Architecture
from evomerge.recipe.plain import Recipe

LAYER = (
    "input_layernorm.weight",
    *(f"self_attn.{name}_proj.weight" for name in "qkvo"),
    *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
    "post_attention_layernorm.weight",
)
MISTRAL = Architecture(
    "MistralForCausalLM",
    32,
    ("model.embed_tokens.weight",),
    tuple(f"model.layers.{{layer}}.{name}" for name in LAYER),
    ("model.norm.weight",),
    ("lm_head.weight",),
)
TWO = [
    {"models": ["org/a", "org/chat"], "positive_prompts": ["solve this"]},
    {"models": ["org/b", "org/chat"], "positive_prompts": ["write that"]},
]


def genome(experts=TWO, **fields):
    own = {
        key: fields.pop(key)
        for key in ("gate_mode", "experts_per_token", "shared_experts", "architecture")
        if key in fields
    }
    return {
        "models": ["org/a", "org/b", "org/chat"],
        "base_model": "org/base",
        "merge_method": "task_arithmetic",
        "space": {"name": "moe", "experts": experts, **own},
        **fields,
    }


def space_of(on=MISTRAL, **fields):
    text = yaml.safe_dump({"genome": genome(**fields), "tasks": ["x"]})
    definition = validate_genome(parse_yaml(text, "g.yml")).genome
    return merge_space_for(definition)(definition, on, "bfloat16")


def names(merge_space):
    return [parameter.name for parameter in merge_space.space]


def start(merge_space):
    return merge_space.recipe(merge_space.space.decode(merge_space.space.initial))


@pytest.mark.parametrize(
    ("granularity", "first", "other"),
    [("model", 1, 1), ("layer", 35, 32), ("parameter", 12, 3), ("tensor", 291, 96)],
)
def test_of_all_experts_but_the_first_the_mlps_alone_are_searched(granularity, first, other):
    # Task-Vector-Merge-Optimizer searches as many numbers in each as in the first.
    found = names(space_of(granularity=granularity))
    for expert, expected in (("expert 1", first), ("expert 2", other)):
        for model in ("chat",):
            own = [name for name in found if f"[{expert}, {model}" in name]
            assert len(own) == expected
    assert not [name for name in found if "expert 2" in name and "attn" in name]


def test_a_point_is_a_document_per_merge_and_what_joins_them():
    merge_space = space_of(granularity="parameter", gate_mode="cheap_embed", experts_per_token=1)
    point = merge_space.space.decode(np.full(merge_space.space.n_dims, 0.3))
    recipe = merge_space.recipe(point)
    recipe.check()
    assert (recipe.kind, recipe.program) == ("moe", "mergekit-moe")
    assert recipe.config["moe"] == {
        "base_model": "evomerge-stage-1",
        "architecture": "mixtral",
        "dtype": "bfloat16",
        "gate_mode": "cheap_embed",
        "experts_per_token": 1,
        "experts": [
            {"source_model": "evomerge-stage-1", "positive_prompts": ["solve this"]},
            {"source_model": "evomerge-stage-2", "positive_prompts": ["write that"]},
        ],
    }
    files = recipe.files("out-stages")
    assert list(files) == ["merges.yml", "moe.yml"]
    first, second = yaml.safe_load_all(files["merges.yml"])
    assert [first["name"], second["name"]] == list(recipe.made)
    assert {entry["model"] for entry in second["models"]} == {"org/b", "org/chat", "org/base"}
    joined = yaml.safe_load(files["moe.yml"])
    assert joined["base_model"] == "out-stages/evomerge-stage-1"
    assert {model.text for model in recipe.models} == {"org/a", "org/b", "org/chat", "org/base"}
    assert merge_space.point_of(recipe) == pytest.approx(point, rel=1e-4)
    assert merge_space.point_of(Recipe({**recipe.config, "moe": {}})) is None
    changed = Recipe({**recipe.config, "merges": recipe.config["merges"][::-1]})
    assert merge_space.point_of(changed) is None


def test_an_expert_may_be_a_model_have_a_method_of_its_own_and_be_shared():
    experts = [
        {"model": "org/a", "positive_prompts": ["x"]},
        {
            "merge_method": "slerp",
            "base_model": None,
            "models": ["org/a", "org/b"],
            "positive_prompts": ["y"],
            "negative_prompts": ["z"],
            "residual_scale": 0.5,
        },
    ]
    shared = [{"expert": 1, "positive_prompts": ["w"]}]
    merge_space = space_of(
        experts=experts, shared_experts=shared, architecture="qwen", experts_per_token=1
    )
    assert names(merge_space) == ["t[expert 2]"]
    recipe = start(merge_space)
    assert recipe.made == ("evomerge-stage-1",)
    joined = recipe.config["moe"]
    assert joined["base_model"] == joined["shared_experts"][0]["source_model"] == "org/a"
    assert joined["experts"][1]["residual_scale"] == 0.5
    assert [one["source_model"] for one in joined["experts"]] == ["org/a", "evomerge-stage-1"]
    assert merge_space.point_of(recipe) == merge_space.space.decode(merge_space.space.initial)


def test_an_expert_with_an_adapter_is_a_merge_of_it():
    models = ["org/a", "org/b", "org/chat", "org/base+org/lora"]
    experts = [*TWO, {"model": "org/base+org/lora", "positive_prompts": ["z"]}]
    recipe = start(space_of(models=models, experts=experts))
    assert len(recipe.made) == 3
    assert recipe.documents[2]["merge_method"] == "passthrough"
    recipe.check()


def test_filters_that_find_no_mlp_are_of_the_first_expert_alone():
    merge_space = space_of(
        filters=["self_attn", "mlp.up"],
        parameters={"weight": [{"filter": "lm_head", "value": 1.0}, {"range": [0.0, 2.0]}]},
    )
    found = names(merge_space)
    assert [name for name in found if "expert 2" in name] == [
        f"weight[expert 2, {inside}]" for inside in ("b, mlp.up", "b", "chat, mlp.up", "chat")
    ]


def test_mlps_that_are_equal_in_all_models_are_not_searched():
    equal = {name: {} for name in MISTRAL.tensors if ".mlp." in name}
    merge_space = space_of()
    models = {s.model for s in merge_space.definition.models} | {merge_space.definition.base_model}
    alike = {name: dict.fromkeys(models, 0) for name in equal}
    merge_space = space_of(on=replace(MISTRAL, alike=alike))
    assert {name.partition(",")[0] for name in names(merge_space)} == {"weight[expert 1"}
    assert {one.name for one in merge_space.idle} == {
        f"weight[expert 2, {model}]" for model in ("b", "chat")
    }


def test_no_point_is_a_model_and_a_candidate_holds_an_mlp_per_expert():
    merge_space = space_of()
    assert merge_space.source_point(0) is merge_space.average_point() is None
    assert merge_space.base_point() is None
    counts = {name: merge_space.n_copies(merge_space.definition, name) for name in MISTRAL.tensors}
    assert counts["model.layers.3.mlp.up_proj.weight"] == 2
    assert counts["lm_head.weight"] == 1


EXPERT = {"positive_prompts": ["x"]}
REFUSED = {
    "an unknown gate mode": (
        {"gate_mode": "hiden"},
        "genome.space.gate_mode: got 'hiden'; did you mean 'hidden'?",
    ),
    "more experts than there are": (
        {"experts_per_token": 3},
        "genome.space.experts_per_token: 3 of 2 experts. Make it",
    ),
    "no prompts": (
        {"experts": [TWO[0], {"models": ["org/b"]}]},
        "genome.space.experts[1].positive_prompts: is missing: gate_mode: hidden needs it",
    ),
    "the same prompts": (
        {"experts": [{**one, "positive_prompts": ["x"]} for one in TWO]},
        "genome.space.experts: all have the same prompts",
    ),
    "one expert": ({"experts": TWO[:1]}, "genome.space.experts: got"),
    "a stranger": (
        {"experts": [TWO[0], {**EXPERT, "models": ["org/z"]}]},
        "genome.space.experts[1]: org/z is not among genome.models",
    ),
    "a model that is a stranger": (
        {"experts": [TWO[0], {**EXPERT, "model": "org/z"}]},
        "experts[1]: org/z is not among",
    ),
    "keys beside a model": (
        {"experts": [TWO[0], {**EXPERT, "model": "org/b", "granularity": "layer"}]},
        "genome.space.experts[1]: a model as it is has no granularity",
    ),
    "an unknown key": (
        {"experts": [TWO[0], {**TWO[1], "granlarity": "layer"}]},
        "genome.space.experts[1]: granlarity: unknown key",
    ),
    "a setting that its method has not": (
        {"experts": [TWO[0], {**TWO[1], "parameters": {"density": {"range": [0, 1]}}}]},
        "genome.space.experts[1]: parameters.density: task_arithmetic reads density and",
    ),
    "a space in a space": (
        {"experts": [TWO[0], {**EXPERT, "space": "soup"}]},
        "an expert has no space of its own",
    ),
    "a shared expert that is not there": (
        {"shared_experts": [{"expert": 3}]},
        "shared_experts[0].expert: there are 2 experts",
    ),
    "a tokenizer that the first has not": (
        {"experts": [{**EXPERT, "model": "org/a"}, TWO[1]], "tokenizer_source": "union"},
        "genome.space.experts[0]: the tokenizer is this model's own",
    ),
    "an unknown output": (
        {"architecture": "mixtrl"},
        "genome.space.architecture: got 'mixtrl'; did you mean",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_file_shows_is_refused_with_its_place(tmp_path, name):
    fields, sentence = REFUSED[name]
    file = tmp_path / "g.yml"
    file.write_text(yaml.safe_dump({"genome": genome(**fields), "tasks": ["x"]}))
    with pytest.raises(GenomeError) as raised:
        read_genomes(file, ())
    found = [str(one) for one in raised.value.problems]
    assert any(sentence in line for line in found), found
    assert len(found) == 1, found


@pytest.mark.parametrize(
    ("architecture", "fields", "sentence"),
    [
        ("GPTNeoXForCausalLM", {}, "mergekit-moe makes no mixture of GPTNeoXForCausalLM"),
        ("Qwen2ForCausalLM", {}, "with 0 shared experts; it makes qwen of them"),
        ("Qwen3ForCausalLM", {"shared_experts": [{"expert": 1}]}, "it makes qwen3 of them"),
        ("LlamaForCausalLM", {"architecture": "qwen3"}, "makes no qwen3 of LlamaForCausalLM"),
        ("LlamaForCausalLM", {"shared_experts": [{"expert": 1}]}, "makes deepseek of these"),
        ("LlamaForCausalLM", {"architecture": "deepseek"}, "which transformers does not hold"),
    ],
)
def test_what_mergekit_moe_does_not_make_is_refused(architecture, fields, sentence):
    with pytest.raises(GenomeError, match=sentence):
        space_of(on=replace(MISTRAL, name=architecture), **fields)


def test_tensors_that_mergekit_moe_would_drop_are_named():
    bias = "model.layers.{layer}.self_attn.q_proj.bias"
    biased = replace(MISTRAL, layer_tensors=(*MISTRAL.layer_tensors, bias))
    with pytest.raises(GenomeError, match=r"leaves .*q_proj\.bias out of a mixtral mixture"):
        space_of(on=biased)
    shared = [{"expert": 1, "positive_prompts": ["w"]}]
    space_of(on=biased, shared_experts=shared)


def test_biases_of_the_wrong_length_are_refused():
    shared = [{"expert": 1, "positive_prompts": ["w"]}]
    wide = replace(MISTRAL, has_own_width=True)
    with pytest.raises(GenomeError, match=r"heads of these models have another width \(head_dim\)"):
        space_of(on=wide, shared_experts=shared)
    space_of(on=wide)  # a mixtral has no biases
    biases = (f"model.layers.{{layer}}.self_attn.{name}_proj.bias" for name in "qkv")
    own = replace(wide, name="Qwen2ForCausalLM", layer_tensors=(*MISTRAL.layer_tensors, *biases))
    space_of(on=own, shared_experts=shared)

"""What is told before models are stacked: other depths, other widths, paths too long for memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evomerge.checks import fitting_models, heads
from evomerge.checks.context import CheckContext
from evomerge.checks.machine_room import memory_and_disk
from evomerge.foundations import machine as resources
from evomerge.foundations.machine import Capacity
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from evomerge.models.facts import ModelFacts, TensorFacts
from evomerge.models.shared_layers import describe

GB = 10**9
NAMES = ("self_attn.{}_proj", "mlp.{}_proj")
ATTENTION, MLP = ("q", "k", "v", "o"), ("gate", "up", "down")


def facts(name, n_layers=4, width=64, heads=4):
    """A Llama with MLPs four times as wide, in bfloat16."""
    shapes = {"model.embed_tokens": (96, width), "lm_head": (96, width), "model.norm": (width,)}
    for layer in range(n_layers):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.self_attn.{one}_proj": (width, width) for one in ATTENTION}
        shapes |= {f"{prefix}.mlp.{one}_proj": (4 * width, width) for one in ("gate", "up")}
        shapes[f"{prefix}.mlp.down_proj"] = (width, 4 * width)
        norms = ("input_layernorm", "post_attention_layernorm")
        shapes |= {f"{prefix}.{one}": (width,) for one in norms}
    tensors = {
        f"{key}.weight": TensorFacts(shape, "BF16", 2 * shape[0] * (shape[-1] if shape[1:] else 1))
        for key, shape in shapes.items()
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": n_layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "vocab_size": 96,
    }
    key = f"genome.models[{'ab'.index(name)}]"
    return ModelFacts(name=name, reference=name, key=key, tensors=tensors, config=config)


def subject(*models, space="{name: layers}", evaluation=""):
    block = f"genome: {{models: [a, b], space: {space}}}\ntasks: [x]\n{evaluation}"
    return CheckContext(validate_genome(parse_yaml(block, "g.yml")), models=models)


def told(rule, *models):
    return [str(finding) for finding in rule(subject(*models))]


def test_other_depths_may_be_stacked_and_other_widths_may_not():
    assert not told(fitting_models.depths, facts("a"), facts("b", n_layers=7))
    assert not told(fitting_models.widths, facts("a"), facts("b", n_layers=7))
    (wider,) = told(fitting_models.widths, facts("a"), facts("b", n_layers=7, width=128))
    assert "tensors of b have other shapes than in a (hidden_size 128, expected 64)" in wider
    (heads,) = told(fitting_models.widths, facts("a"), facts("b", n_layers=7, heads=8))
    assert "another meaning (num_attention_heads 8, expected 4)" in heads
    merged = CheckContext(
        validate_genome(
            parse_yaml("genome: {models: [a, b], merge_method: linear}\ntasks: [x]", "g")
        ),
        models=(facts("a"), facts("b", n_layers=7)),
    )
    (depth,) = (str(finding) for finding in fitting_models.depths(merged))
    assert "b has 7 layers, expected 4 as a" in depth


@pytest.mark.parametrize(
    ("space", "is_too_long"),
    [
        ("{name: layers}", False),
        ("{name: layers, encoding: mask, repeats: 8, scales: null}", False),
        ("{name: layers, encoding: mask, repeats: 8}", True),
    ],
)
def test_a_path_too_long_for_memory_is_refused(monkeypatch, space, is_too_long):
    models = facts("a", 32, 2048, 32), facts("b", 32, 2048, 32)
    monkeypatch.setattr(resources, "memory", lambda: Capacity(16 * GB, 12 * GB))
    checked = subject(*models, space=space)
    definition = checked.genome.genome
    made = merge_space_for(definition)(definition, describe(models), "bfloat16")
    found = [
        str(one)
        for one in memory_and_disk(CheckContext(checked.genome, models=models, merge_space=made))
    ]
    assert is_too_long == any("the run takes" in one and "at least" in one for one in found)
    if is_too_long:  # 512 layers that each scale o_proj and down_proj: 5 * 2048 ** 2 numbers
        assert any("scaled tensors of the longest path, 512 layers 21.5 GB" in one for one in found)


LAST_OF_B = (
    "{name: layers, encoding: slices, slices: [{model: a, layer_range: [0, {integer: [1, 2]}]},"
    " {model: b, layer_range: [2, 4]}]}"
)
LAST_OF_A = LAST_OF_B.replace("model: b", "model: a")


@pytest.mark.parametrize(
    ("tied", "space", "where"),
    [
        ("b", "{name: layers}", "genome.models[1]"),
        ("b", "{name: layers, encoding: mask}", "genome.models[1]"),
        ("b", LAST_OF_B, "genome.models[1]"),
        ("b", LAST_OF_A, ""),
        ("a", "{name: layers}", ""),
        ("", "{name: layers}", ""),
    ],
)
def test_stacks_that_would_have_no_head_are_refused(tied, space, where):
    models = [facts(name) for name in "ab"]
    for index, model in enumerate(models):
        if model.name == tied:
            held = {k: v for k, v in model.tensors.items() if k != "lm_head.weight"}
            config = {**model.config, "tie_word_embeddings": True}
            models[index] = replace(model, tensors=held, config=config)
    checked = subject(*models, space=space)
    definition = checked.genome.genome
    made = merge_space_for(definition)(definition, describe(models), "bfloat16")
    found = [*heads.headless_stacks(replace(checked, merge_space=made))]
    assert [one.problem.where for one in found] == ([where] if where else [])
    assert all("Set base_model: b, whose configuration ties it." in str(one) for one in found)

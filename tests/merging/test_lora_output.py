"""Merges written as adapters: PEFT gives the merge back, or is as near as the rank allows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import yaml
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evomerge.foundations.errors import MergeError, OccupiedError, RunError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.model_names import ModelName
from evomerge.merging.lora_output import FIT, write_lora
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from evomerge.report.adapter_export import adapter_of, base_of
from tests.lora_experts import WEIGHTS, lora_expert
from tests.tiny_models import tiny_family, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT warns of heads
LAYER_WEIGHTS = ((0.7, 0.2), (-0.45, 1.3))  # model, then layer


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("lora") / "base", "qwen2", tie_word_embeddings=True)


@pytest.fixture(scope="module")
def experts(base):
    """Of other ranks, scalings and modules; the last one leaves a layer alone."""
    settings = (
        {"r": 2, "lora_alpha": 3},
        {"r": 3, "lora_alpha": 4, "target_modules": ["q_proj", "down_proj"], "use_rslora": True},
        {"r": 1, "lora_alpha": 1, "layers_to_transform": [1]},
    )
    return [
        lora_expert(base.parent / f"expert_{seed}", base, seed, std=0.3, **own)
        for seed, own in enumerate(settings)
    ]


def recipe_of(base, experts, method="task_arithmetic", dtype="float32", **parameters):
    """Each of the first two experts with weights of its own in both layers, the last with none."""
    weights = [*LAYER_WEIGHTS[: len(experts)], (0.5, 0.5)][: len(experts)]
    slices = [
        {
            "sources": [
                {
                    "model": f"{base}+{expert}",
                    "layer_range": [layer, layer + 1],
                    "parameters": {"weight": own[layer], **parameters},
                }
                for expert, own in zip(experts, weights, strict=True)
            ]
            + [{"model": str(base), "layer_range": [layer, layer + 1]}]
        }
        for layer in (0, 1)
    ]
    return Recipe(
        {
            "merge_method": method,
            "slices": slices,
            "base_model": str(base),
            "parameters": {"normalize": False},
            "dtype": "float32",
            "out_dtype": dtype,
        }
    )


def adapter(recipe, rank=None, base=None):
    content = {"merge_seed": 0, "threads": 1, "device": "cpu"}
    chosen = SimpleNamespace(recipe=recipe, content=content)
    named = base_of(recipe, base)
    return adapter_of(chosen, named, rank, Permissions(), lambda what, share: None)


def written(lora, base, folder):
    """The base with the adapter, as PEFT folds it in."""
    write_lora(lora, folder)
    model = AutoModelForCausalLM.from_pretrained(base)
    merged = PeftModel.from_pretrained(model, folder).merge_and_unload()
    return {name: one.detach().clone() for name, one in merged.named_parameters()}


def live(recipe):
    module = ResidentMerger().merge(recipe).module
    return {name: one.detach().clone() for name, one in module.named_parameters()}


@pytest.mark.parametrize("n_experts", [2, 3])
def test_a_sum_of_adapters_is_their_factors_one_below_the_other(base, experts, tmp_path, n_experts):
    recipe = recipe_of(base, experts[:n_experts])
    lora = adapter(recipe)
    assert lora.rank == (5, 6)[n_experts - 2]
    found, expected = written(lora, base, tmp_path / "out"), live(recipe)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-6)
    assert lora.total.relative < 1e-5
    assert lora.left_out == ()
    said = json.loads((tmp_path / "out" / FIT).read_text())
    assert said["tensors"].keys() == {tensor.name for tensor in lora.tensors}
    stored = load_file(tmp_path / "out" / WEIGHTS)
    assert {len(t) for name, t in stored.items() if "lora_A" in name} == {lora.rank}


def test_what_one_adapter_holds_alone_is_found_in_its_layer(base, experts):
    lora = adapter(recipe_of(base, experts))
    a, b = lora.factors["model.layers.0.self_attn.q_proj"]
    assert not a[5:].any()  # the third leaves layer 0 alone
    assert not b[:, 5:].any()
    a, b = lora.factors["model.layers.1.self_attn.q_proj"]
    stored = load_file(experts[2] / WEIGHTS)
    prefix = "base_model.model.model.layers.1.self_attn.q_proj"
    assert torch.equal(a[5:], stored[f"{prefix}.lora_A.weight"])
    torch.testing.assert_close(b[:, 5:], 0.5 * stored[f"{prefix}.lora_B.weight"], rtol=1e-4, atol=0)


def test_a_merge_in_bfloat16_is_the_sum_but_for_its_rounding(base, experts, tmp_path):
    half = tiny_model(tmp_path / "half", "qwen2", tie_word_embeddings=True, dtype="bfloat16")
    lora = adapter(recipe_of(half, experts[:2], dtype="bfloat16"))
    whole = adapter(recipe_of(base, experts[:2]))
    assert lora.rank == 5
    assert 1e-4 < lora.total.relative < 0.05
    for module, (_, b) in whole.factors.items():
        apart = (lora.factors[module][1] - b).norm() / b.norm()
        assert apart < 0.02, module


def test_a_base_in_float32_may_have_a_merge_in_bfloat16(base, experts):
    lora = adapter(recipe_of(base, experts[:2], dtype="bfloat16"))
    assert lora.rank == 5
    assert 1e-4 < lora.total.relative < 0.05
    recipe = recipe_of(base, [experts[0]], dtype="bfloat16").to_yaml()
    doubled = {**yaml.safe_load(recipe), "merge_method": "linear"}  # the base half as well
    doubled["parameters"] = {"weight": 0.5, "normalize": False}
    with pytest.raises(RunError, match="more than a sum of its adapters"):
        adapter(Recipe(doubled))


def test_the_nearest_of_a_rank_has_the_error_that_its_singular_values_say(base, experts, tmp_path):
    recipe = recipe_of(base, experts[:2])
    lora = adapter(recipe, rank=2)
    before = dict(AutoModelForCausalLM.from_pretrained(base).named_parameters())
    after, found = live(recipe), written(lora, base, tmp_path / "out")
    for fit in lora.tensors:
        delta = (after[fit.name] - before[fit.name]).detach()
        values = torch.linalg.svdvals(delta.double())
        expected = values[2:].norm() / values.norm()
        assert fit.relative == pytest.approx(float(expected), rel=1e-3, abs=1e-6)
        missing = (after[fit.name] - found[fit.name]).norm() / delta.norm()
        assert fit.relative == pytest.approx(float(missing), rel=1e-2, abs=1e-5)
    assert 0.05 < lora.total.relative < 1
    assert adapter(recipe, rank=5).total.relative < 1e-5


def test_whole_models_are_cut_and_what_is_no_linear_layer_is_counted(tmp_path):
    base, *models = tiny_family(tmp_path)
    recipe = Recipe(
        {
            "merge_method": "task_arithmetic",
            "base_model": str(base),
            "models": [{"model": str(m), "parameters": {"weight": 0.5}} for m in models],
            "dtype": "float32",
        }
    )
    lora = adapter(recipe, rank=32)
    left = {fit.name for fit in lora.left_out}
    assert {"model.embed_tokens.weight", "model.norm.weight"} <= left
    assert "lm_head" in lora.factors
    assert all(fit.relative < 1e-5 for fit in lora.tensors)
    found, expected = written(lora, base, tmp_path / "out"), live(recipe)
    missing = sum(float((expected[n] - found[n]).norm()) ** 2 for n in expected) ** 0.5
    before = dict(AutoModelForCausalLM.from_pretrained(base).named_parameters())
    change = sum(float((expected[n] - before[n]).norm()) ** 2 for n in expected) ** 0.5
    assert lora.total.relative == pytest.approx(missing / change, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"method": "ties", "density": 0.5}, "ties makes no sum of adapters"),
        ({"dtype": "float32", "scaled": 1.5}, "more than a sum of its adapters"),
    ],
)
def test_what_is_no_sum_needs_a_rank(base, experts, change, what):
    scaled = change.pop("scaled", None)
    recipe = recipe_of(base, experts[:2], **change)
    if scaled:  # a linear merge whose weights do not sum to 1 scales the base
        models = [{"model": f"{base}+{e}", "parameters": {"weight": 0.75}} for e in experts[:2]]
        recipe = Recipe(
            {
                "merge_method": "linear",
                "models": models,
                "dtype": "float32",
                "parameters": {"normalize": False},
            }
        )
    with pytest.raises(RunError, match=what) as told:
        adapter(recipe)
    assert told.value.problems[0].fix.startswith("Give --rank N")
    assert adapter(recipe, rank=4).total.relative < 1


def test_the_base_is_the_adapters_then_the_recipes(base, experts, tmp_path):
    recipe = recipe_of(base, experts[:2])
    assert base_of(recipe).path == str(base)
    other = ModelName(path="other")
    assert base_of(recipe, other) == other
    with pytest.raises(
        RunError, match=r"--base: other\+x is a model with an adapter.* Name other,"
    ):
        base_of(recipe, ModelName(path="other", lora="x"))
    soup = Recipe({"merge_method": "linear", "models": [{"model": "a"}, {"model": "b"}]})
    with pytest.raises(RunError, match="names no base"):
        base_of(soup)
    first = {"name": "stage-1", "merge_method": "linear", "models": [{"model": "a"}]}
    second = {"merge_method": "passthrough", "base_model": "stage-1", "models": [{"model": "b"}]}
    with pytest.raises(RunError, match="names no base"):
        base_of(Recipe({"stages": [first, second]}))
    with pytest.raises(RunError, match="several models side by side"):
        base_of(Recipe({"mixture": [{"model": "a", "weight": 1.0}]}))
    mixed = Recipe({"merge_method": "linear", "models": [{"model": "a+x"}, {"model": "b+y"}]})
    with pytest.raises(RunError, match="several bases: a, b"):
        base_of(mixed)
    wide = tiny_model(tmp_path / "wide", "qwen2", hidden_size=64)
    with pytest.raises(MergeError, match="are others than in its base"):
        adapter(recipe, rank=2, base=ModelName(path=str(wide)))


def test_an_adapter_of_another_model_is_none_of_this_one(base, experts, tmp_path):
    twin = ModelName(path=str(shutil.copytree(base, tmp_path / "twin")))  # of the same weights
    with pytest.raises(RunError, match="more than a sum of its adapters"):
        adapter(recipe_of(base, experts[:2]), base=twin)


def test_one_adapter_that_is_passed_through_is_itself(base, experts):
    models = [{"model": f"{base}+{experts[0]}"}]
    recipe = Recipe({"merge_method": "passthrough", "models": models, "dtype": "float32"})
    assert adapter(recipe).rank == 2


def test_what_is_no_merge_is_no_adapter(base, experts):
    members = [{"model": f"{base}+{expert}", "weight": 0.5} for expert in experts[:2]]
    with pytest.raises(RunError, match="no merge of them"):
        adapter(Recipe({"mixture": members}))


def test_nothing_is_replaced(base, experts, tmp_path):
    lora = adapter(recipe_of(base, experts[:2]))
    write_lora(lora, tmp_path / "out")
    with pytest.raises(OccupiedError, match=r"made of a merge already\. .* add --force"):
        write_lora(lora, tmp_path / "out")


def test_force_replaces_an_adapter_made_of_a_merge_and_no_other(base, experts, tmp_path):
    lora, out = adapter(recipe_of(base, experts[:2])), tmp_path / "out"
    write_lora(lora, out)
    write_lora(replace(lora, rank=7), out, force=True)
    assert json.loads((out / FIT).read_text())["rank"] == 7
    for other in (experts[0], base):
        before = {file.name: file.read_bytes() for file in other.iterdir()}
        with pytest.raises(OccupiedError, match="other things than an adapter made of a merge"):
            write_lora(lora, other, force=True)
        assert {file.name: file.read_bytes() for file in other.iterdir()} == before


def test_peft_reads_the_base_and_its_revision_apart(base, experts, tmp_path):
    lora = adapter(recipe_of(base, experts[:2]))
    write_lora(replace(lora, base=ModelName(path="org/m", revision="v2")), tmp_path / "out")
    read = PeftConfig.from_pretrained(tmp_path / "out")
    assert (read.base_model_name_or_path, read.revision) == ("org/m", "v2")

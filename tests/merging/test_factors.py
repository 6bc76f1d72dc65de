"""Sums of adapters: the written one, the folded one, and what PEFT makes of them."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evomerge.foundations.errors import MergeError, UnreadableError
from evomerge.foundations.files import write_missing
from evomerge.genome.model_names import ModelName
from evomerge.merging.factors import placed, read_sum, write_adapter
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.adapter_sum import AdapterSum, file_of
from evomerge.recipe.own_names import located
from evomerge.recipe.plain import Recipe
from tests.lora_experts import WEIGHTS, lora_expert
from tests.merging.built import assert_equals_folder, build_in_process
from tests.tiny_models import tiny_model

COEFFICIENTS = (0.7, -0.45, 0.75)


def experts(tmp_path, *, base_dtype="float32", dtype="float32", **settings):
    base = tiny_model(tmp_path / "base", dtype=base_dtype)
    adapters = [
        lora_expert(tmp_path / f"lora_{i}", base, i, dtype=dtype, **settings) for i in range(3)
    ]
    return (
        base,
        adapters,
        AdapterSum(
            tuple(ModelName.model_validate(f"{base}+{adapter}") for adapter in adapters),
            COEFFICIENTS,
        ),
    )


def slices(model):
    return {"slices": [{"sources": [{"model": str(model), "layer_range": [0, 2]}]}]}


def passthrough(adapter_sum, run_dir, out_dtype="float32", work_dtype="float32"):
    write_missing(run_dir, {file_of(adapter_sum.name): adapter_sum.text})
    recipe = Recipe(
        {
            "merge_method": "passthrough",
            **slices(adapter_sum.model.in_recipe),
            "base_model": adapter_sum.models[0].path,
            "dtype": work_dtype,
            "out_dtype": out_dtype,
        }
    )
    return located(recipe, run_dir)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_written_adapter_is_the_sum_of_the_others_to_the_bit(tmp_path, dtype):
    _, adapters, adapter_sum = experts(tmp_path, dtype=dtype)
    write_adapter(adapter_sum, tmp_path / "out" / "sum")
    written = load_file(tmp_path / "out" / "sum" / WEIGHTS)
    parts = [load_file(adapter / WEIGHTS) for adapter in adapters]
    assert written.keys() == parts[0].keys()
    for name, tensor in written.items():
        a, b, c = (k * part[name].float() for k, part in zip(COEFFICIENTS, parts, strict=True))
        assert torch.equal(tensor, (a + b + c).to(getattr(torch, dtype)))
    config = "adapter_config.json"
    assert (tmp_path / "out" / "sum" / config).read_bytes() == (adapters[0] / config).read_bytes()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sum"]


@pytest.mark.parametrize(
    ("base_dtype", "dtype", "work_dtype", "out_dtype", "settings"),
    [
        ("float32", "float32", "float32", "float32", {}),
        ("bfloat16", "bfloat16", "float32", "bfloat16", {"use_rslora": True}),
        pytest.param("bfloat16", "float32", "float32", "bfloat16", {}, marks=pytest.mark.slow),
        pytest.param("float16", "bfloat16", "float32", "float32", {}, marks=pytest.mark.slow),
        ("float32", "float16", "float32", "bfloat16", {"target_modules": ["k_proj", "down_proj"]}),
        ("float32", "float32", "bfloat16", "float32", {}),
        pytest.param("bfloat16", "float32", "bfloat16", "float32", {}, marks=pytest.mark.slow),
    ],
)
def test_the_model_is_what_mergekit_and_peft_build_with_the_written_adapter(
    tmp_path, base_dtype, dtype, work_dtype, out_dtype, settings
):
    base, _, adapter_sum = experts(tmp_path, base_dtype=base_dtype, dtype=dtype, **settings)
    recipe = passthrough(adapter_sum, tmp_path, out_dtype, work_dtype)
    live = ResidentMerger().merge(recipe)
    plain = placed(recipe, tmp_path / "beside")
    out = build_in_process(plain.config, tmp_path / "out", lora_cache=tmp_path / "cache")
    assert_equals_folder(live, out)
    folded = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base),
        tmp_path / "beside" / adapter_sum.name.partition("/")[2],
    ).merge_and_unload()
    for name, tensor in live.module.state_dict().items():
        expected = folded.state_dict()[name].to(getattr(torch, work_dtype))
        assert torch.equal(tensor, expected.to(tensor.dtype)), name


def test_each_of_two_stages_is_built_with_its_own_sum(tmp_path):
    base, _, adapter_sum = experts(tmp_path)
    sums = [adapter_sum, AdapterSum(adapter_sum.models, (0.2, 0.3, 0.5))]
    for one in sums:
        write_missing(tmp_path, {file_of(one.name): one.text})
    stages = [
        {"name": name, "merge_method": "passthrough", **slices(one.model.in_recipe)}
        | {"base_model": str(base), "dtype": "float32"}
        for name, one in zip(("one", "other"), sums, strict=True)
    ]
    weighted = [{"model": n, "parameters": {"weight": 0.5}} for n in ("one", "other")]
    last = {"merge_method": "linear", "models": weighted, "dtype": "float32"}
    recipe = located(Recipe({"stages": [*stages, last]}), tmp_path)
    plain = placed(recipe, tmp_path / "beside")
    first, second, _ = plain.documents
    named = [part["slices"][0]["sources"][0]["model"] for part in (first, second)]
    beside = [tmp_path / "beside" / one.name.partition("/")[2] for one in sums]
    assert named == [f"{base}+{folder}" for folder in beside]
    assert all(folder.is_dir() for folder in beside)
    one, other = (load_file(folder / WEIGHTS) for folder in beside)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_one_merge_of_two_sums_is_refused(tmp_path):
    _, _, adapter_sum = experts(tmp_path)
    other = AdapterSum(adapter_sum.models, (0.2, 0.3, 0.5))
    models = [{"model": one.model.in_recipe} for one in (adapter_sum, other)]
    recipe = Recipe({"merge_method": "linear", "models": models, "dtype": "float32"})
    with pytest.raises(MergeError, match="one merge of 2 sums of adapters"):
        ResidentMerger().merge(located(recipe, tmp_path))


def test_another_sum_a_baseline_and_the_first_sum_again_leave_nothing_behind(tmp_path):
    base, _, adapter_sum = experts(tmp_path)
    other = AdapterSum(adapter_sum.models, (0.2, 0.3, 0.5))
    merger = ResidentMerger()
    recipes = [passthrough(each, tmp_path) for each in (adapter_sum, other)]
    recipes += [Recipe({**recipes[0].config, **slices(base)})]
    fresh = [state_of(ResidentMerger(), recipe) for recipe in recipes]
    for index in (0, 1, 0, 2, 1, 2, 0):
        held = state_of(merger, recipes[index])
        assert all(torch.equal(held[name], fresh[index][name]) for name in held)
    changed = [name for name in fresh[0] if not torch.equal(fresh[0][name], fresh[1][name])]
    assert changed == [name for name in fresh[0] if "q_proj" in name or "up_proj" in name]


def state_of(merger, recipe):
    return {
        name: tensor.clone() for name, tensor in merger.merge(recipe).module.state_dict().items()
    }


def test_a_sum_of_factors_is_not_the_sum_of_deltas(tmp_path):
    _, _, adapter_sum = experts(tmp_path)
    factors = state_of(ResidentMerger(), passthrough(adapter_sum, tmp_path))
    models = zip(adapter_sum.models, COEFFICIENTS, strict=True)
    linear = {
        "merge_method": "linear",
        "models": [{"model": m.in_recipe, "parameters": {"weight": c}} for m, c in models],
        "parameters": {"normalize": False},
        "dtype": "float32",
        "tokenizer_source": adapter_sum.models[0].in_recipe,
    }
    deltas = state_of(ResidentMerger(), Recipe(linear))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (factors[name] - deltas[name]).abs().max() > 0.1
    torch.testing.assert_close(factors["lm_head.weight"], deltas["lm_head.weight"])


def test_one_coefficient_of_one_is_the_expert_itself(tmp_path):
    _, _, adapter_sum = experts(tmp_path)
    alone = AdapterSum(adapter_sum.models, (0.0, 1.0, 0.0))
    recipe = passthrough(alone, tmp_path)
    expert = Recipe({**recipe.config, **slices(adapter_sum.models[1].in_recipe)})
    merger = ResidentMerger()
    ours, theirs = state_of(merger, recipe), state_of(merger, expert)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_sum_whose_file_is_gone_or_another_fails_its_trial_only(tmp_path):
    _, _, adapter_sum = experts(tmp_path)
    recipe = passthrough(adapter_sum, tmp_path)
    file = tmp_path / file_of(adapter_sum.name)
    assert read_sum(str(tmp_path / adapter_sum.name)) == adapter_sum
    content = {**json.loads(adapter_sum.text), "coefficients": [1, 0, 0]}
    file.write_text(json.dumps(content))
    with pytest.raises(MergeError, match="holds another sum of adapters than its name says"):
        ResidentMerger().merge(recipe)
    file.write_text("{}")
    with pytest.raises(MergeError, match="it is no sum of adapters"):
        ResidentMerger().merge(recipe)
    file.unlink()
    with pytest.raises(MergeError, match="cannot be read"):
        ResidentMerger().merge(recipe)


def test_a_broken_expert_leaves_no_half_of_a_folder(tmp_path):
    _, adapters, adapter_sum = experts(tmp_path)
    (adapters[0] / "adapter_config.json").unlink()
    with pytest.raises(UnreadableError, match=r"adapter_config\.json: no such file"):
        write_adapter(adapter_sum, tmp_path / "out" / "sum")
    assert not (tmp_path / "out").exists()

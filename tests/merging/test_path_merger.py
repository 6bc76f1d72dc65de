"""Stacks of layers run without a merge, and equal the folder that mergekit builds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.foundations.errors import MergeError, ModelError
from evomerge.merging.live_model import LiveModel
from evomerge.merging.mergers import Mergers
from evomerge.merging.path_merger import PathMerger
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from tests.merging.built import assert_equals_folder, build_in_process, load
from tests.tiny_models import tiny_family, tiny_model

Hops = Sequence[tuple[int, int, float]]  # model, layer, scale
PATHS: dict[str, Hops] = {
    "as long": [(0, 0, 1.0), (1, 1, 0.7)],
    "longer": [(1, 0, 1.0), (0, 0, 1.3), (0, 1, 1.0), (0, 1, 0.6), (1, 1, 1.0)],
    "one layer": [(1, 1, 0.5)],
    "repeated": [(0, 0, 1.0), (1, 1, 0.7), (1, 1, 0.7)],
}
# Their configurations list layers, and mergekit writes none of another length.
OF_ONE_LENGTH = ("qwen2", "gemma2")
ADDS = {"gpt_neox": ("attention.dense", "dense_4h_to_h")}


def recipe_of(
    models: Sequence[Path], hops: Hops, architecture: str = "llama", **frame: Any
) -> Recipe:
    adds = ADDS.get(architecture, ("o_proj", "down_proj"))
    slices = []
    for model, layer, scale in hops:
        source: dict[str, Any] = {"model": str(models[model]), "layer_range": [layer, layer + 1]}
        if scale != 1.0:
            values: list[dict[str, Any]] = [{"filter": name, "value": scale} for name in adds]
            source["parameters"] = {"scale": [*values, {"value": 1.0}]}
        slices.append({"sources": [source]})
    frame = {"base_model": str(models[0]), "dtype": "float32", "out_dtype": "float32", **frame}
    return Recipe({"merge_method": "passthrough", "slices": slices, **frame})


def merger_of(**settings: Any) -> PathMerger:
    return PathMerger(Mergers(lambda: ResidentMerger(**settings)))


def assert_writes_the_same(live: LiveModel, folder: Path) -> None:
    """Greedy texts, which read keys and values of every layer from their cache."""
    tokens = torch.arange(4, 14)[None]
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 3, "eos_token_id": 2}
    live_text = live.module.generate(tokens, **settings)  # type: ignore[operator]  # a mixin
    assert torch.equal(live_text, load(folder).generate(tokens, **settings))  # type: ignore[operator]  # likewise


@pytest.mark.parametrize(
    "architecture",
    [
        "llama",
        pytest.param("mistral", marks=pytest.mark.slow),
        "gpt_neox",
        pytest.param("qwen2", marks=pytest.mark.slow),
        pytest.param("gemma2", marks=pytest.mark.slow),
    ],
)
def test_one_stack_after_the_other_equals_the_build(tmp_path: Path, architecture: str) -> None:
    models = tiny_family(tmp_path, architecture)[1:]
    merger = merger_of()
    names = ["as long"] if architecture in OF_ONE_LENGTH else [*PATHS]
    for name in [*names, "as long"]:
        recipe = recipe_of(models, PATHS[name], architecture)
        live = merger.merge(recipe)
        folder = tmp_path / f"built {name}"
        if not folder.exists():
            build_in_process(recipe.config, folder)
        assert merger._shells is not None
        assert_equals_folder(live, folder)
        assert_writes_the_same(live, folder)


@pytest.mark.parametrize("tied", [False, True])
def test_bfloat16_is_rounded_where_a_build_rounds(tmp_path: Path, tied: bool) -> None:
    settings = {"dtype": "bfloat16", "tie_word_embeddings": tied}
    models = tiny_family(tmp_path, **settings)[1:]
    recipe = recipe_of(models, PATHS["longer"], out_dtype="bfloat16")
    merger = merger_of()
    live = merger.merge(recipe)
    assert_equals_folder(live, build_in_process(recipe.config, tmp_path / "built"))
    swapped = recipe_of(models[::-1], PATHS["longer"], out_dtype="bfloat16")
    assert_equals_folder(merger.merge(swapped), build_in_process(swapped.config, tmp_path / "b"))


def test_layers_that_run_twice_are_in_memory_once(tmp_path: Path) -> None:
    models = tiny_family(tmp_path)[1:]
    merger = merger_of()
    module: Any = merger.merge(recipe_of(models, [(0, 0, 1.0), (0, 1, 1.0), (0, 1, 0.5)])).module
    last, again = module.model.layers[1:]
    assert last.mlp.up_proj.weight is again.mlp.up_proj.weight
    assert last.mlp.down_proj.weight is not again.mlp.down_proj.weight
    assert (last.self_attn.layer_idx, again.self_attn.layer_idx) == (1, 2)
    merger.merge(recipe_of(models, [(0, 0, 1.0), (0, 1, 1.0), (1, 1, 1.0)]))
    assert merger._tensors is not None
    assert not merger._tensors._scaled  # nobody runs it any more
    assert merger._resident.homes is None  # one model is in memory, not two


def test_a_stack_with_a_few_layers_more_runs_in_the_same_model(tmp_path: Path) -> None:
    models = tiny_family(tmp_path)[1:]
    merger = merger_of()
    short: Hops = [(0, 0, 1.0), (0, 1, 0.7)]
    longer = [*short, (1, 1, 0.7)]
    module = merger.merge(recipe_of(models, short)).module
    recipe = recipe_of(models, longer)
    live = merger.merge(recipe)
    assert live.module is module
    assert_equals_folder(live, build_in_process(recipe.config, tmp_path / "built"))


def test_memory_of_a_scaled_tensor_serves_the_next_stack(tmp_path: Path) -> None:
    models = tiny_family(tmp_path)[1:]
    merger = merger_of()

    def at(scale: float) -> int:
        module: Any = merger.merge(recipe_of(models, [(0, 0, 1.0), (0, 1, scale)])).module
        return int(module.model.layers[1].mlp.down_proj.weight.data_ptr())

    places = [at(scale) for scale in (0.5, 0.5, 0.7)]
    assert len(set(places)) == 1
    recipe = recipe_of(models, [(1, 0, 0.7), (0, 1, 0.7)])
    live = merger.merge(recipe)
    assert_equals_folder(live, build_in_process(recipe.config, tmp_path / "built"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_scale_that_no_number_holds_is_a_failed_merge(tmp_path: Path, dtype: str) -> None:
    models = tiny_family(tmp_path, dtype=dtype)[1:]
    merger = merger_of()
    for scale in (1e40, 0.5, float("inf")):
        recipe = recipe_of(models, [(0, 0, 1.0), (0, 1, scale)], out_dtype=dtype)
        if scale == 0.5:
            merger.merge(recipe)
            continue
        with pytest.raises(MergeError, match=r"layers\.1.* not finite"):
            merger.merge(recipe)


def test_models_of_different_depths_share_a_stack(tmp_path: Path) -> None:
    small = tiny_model(tmp_path / "small")
    large = tiny_model(tmp_path / "large", seed=1, num_hidden_layers=4)
    recipe = recipe_of([small, large], [(0, 0, 1.0), (1, 1, 1.0), (1, 3, 0.8)])
    live = merger_of().merge(recipe)
    assert_equals_folder(live, build_in_process(recipe.config, tmp_path / "built"))


def test_a_layer_that_lacks_a_tensor_does_not_keep_that_of_the_stack_before(
    tmp_path: Path,
) -> None:
    models = [
        tiny_model(tmp_path / name, "granite", seed=seed, attention_bias=True)
        for seed, name in enumerate("ab")
    ]
    tensors = load_file(models[1] / "model.safetensors")
    del tensors["model.layers.1.self_attn.q_proj.bias"]
    save_file(tensors, models[1] / "model.safetensors", metadata={"format": "pt"})
    whole, lacking = (
        recipe_of(models, [(0, 0, 1.0), (last, 1, 1.0)], "granite") for last in (0, 1)
    )
    merger = merger_of()
    first = merger.merge(whole).module.state_dict()
    with pytest.raises(ModelError, match=r"hold no 'model\.layers\.1\.self_attn\.q_proj\.bias'"):
        merger.merge(lacking)
    again = merger.merge(whole).module.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())


def test_other_recipes_are_merged_and_stacks_come_back(tmp_path: Path) -> None:
    models = tiny_family(tmp_path)[1:]
    merger = merger_of()
    stack = recipe_of(models, PATHS["longer"])
    first = merger.merge(stack).module.state_dict()
    linear = {
        "merge_method": "linear",
        "models": [{"model": str(m), "parameters": {"weight": 0.5}} for m in models],
        "base_model": str(models[0]),
        "dtype": "float32",
    }
    live = merger.merge(Recipe(linear))
    assert_equals_folder(live, build_in_process(linear, tmp_path / "linear"))
    assert merger._shells is None
    again = merger.merge(stack).module.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())


def test_values_over_depth_are_left_to_the_merge(tmp_path: Path) -> None:
    models = tiny_family(tmp_path)[1:]
    recipe = recipe_of(models, PATHS["as long"])
    recipe.config["slices"][0]["sources"][0]["parameters"] = {"scale": [0.5, 1.0]}
    merger = merger_of()
    live = merger.merge(recipe)
    assert merger._shells is None
    assert_equals_folder(live, build_in_process(recipe.config, tmp_path / "built"))


def test_a_scale_of_a_whole_recipe_reaches_embeddings_and_head(tmp_path: Path) -> None:
    models = tiny_family(tmp_path)[1:]
    scale = {"scale": [{"filter": "lm_head", "value": 0.5}, {"filter": "*", "value": 0.9}]}
    recipe = recipe_of(models, PATHS["longer"], parameters=scale)
    live = merger_of().merge(recipe)
    assert_equals_folder(live, build_in_process(recipe.config, tmp_path / "built"))


def test_a_layer_that_no_model_has_is_a_failed_merge(tmp_path: Path) -> None:
    models = tiny_family(tmp_path)[1:]
    with pytest.raises(MergeError, match="there is no layer 7"):
        merger_of().merge(recipe_of(models, [(0, 0, 1.0), (1, 7, 1.0)]))

"""Models that see: every part is merged as mergekit builds it, every tensor has its place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mergekit.architecture import get_architecture_info
from mergekit.common import ModelReference
from mergekit.options import MergeOptions
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from evomerge.foundations.errors import GenomeError, ModelError
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.methods import METHODS as METHODS_KNOWN
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces import merge_space_for
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merging.refusals import refusals
from evomerge.merging.resident import ResidentMerger
from evomerge.merging.structure import Configuration
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.models.inspect import read_model
from evomerge.models.shared_layers import describe
from evomerge.recipe.accounting import accounts_of
from evomerge.recipe.plain import Recipe
from tests.merging.built import SEED, build_in_process
from tests.merging.layouts import recipe_config
from tests.thinned import thinned
from tests.tiny_vision_models import tiny_vision_family, tiny_vision_model

KINDS = ("qwen2_5_vl", "qwen3_vl", "gemma3", "mistral3", "llava")
Family = Callable[[str], list[Path]]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return cache(lambda kind: tiny_vision_family(tmp_path_factory.mktemp(kind), kind))


def facts(*folders: Path) -> list[ModelFacts]:
    return [read_model(ModelName(path=str(folder))) for folder in folders]


def task_arithmetic(models: list[Path], weight: float) -> dict[str, Any]:
    base, *others = map(str, models)
    return {
        "merge_method": "task_arithmetic",
        "base_model": base,
        "models": [{"model": one, "parameters": {"weight": weight}} for one in others],
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }


def assert_is_built(recipe: dict[str, Any], merger: ResidentMerger, out: Path) -> None:
    """Every tensor of the live model, and its logits, are those of mergekit's folder."""
    live = merger.merge(Recipe(recipe)).module
    built = AutoModelForImageTextToText.from_pretrained(build_in_process(recipe, out)).eval()
    held, expected = live.state_dict(), built.state_dict()
    assert held.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(held[name], expected[name])] == []
    tokens = torch.arange(8, 28)[None]
    with torch.no_grad():
        assert torch.equal(live(tokens).logits, built(tokens).logits)


# Of each kind all parts are built here, or the language part; the other in the slow suite.
@pytest.mark.parametrize("kind", thinned(("gemma3", "llava", "mistral3", "qwen3_vl", "qwen2_5_vl")))
def test_all_parts_equal_the_build_and_are_overwritten_in_place(
    family: Family, tmp_path: Path, kind: str
) -> None:
    merger = ResidentMerger(merge_seed=SEED)
    merger.merge(Recipe(task_arithmetic(family(kind), 0.9)))  # its values must not remain
    assert merger.homes is not None
    assert_is_built(task_arithmetic(family(kind), 0.4), merger, tmp_path / "built")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl"])
@pytest.mark.parametrize("method", sorted(METHODS_KNOWN))
def test_every_method_equals_the_build(
    family: Family, tmp_path: Path, method: str, kind: str
) -> None:
    recipe = recipe_config(method, "models", family(kind), dtype="float32", out_dtype="bfloat16")
    assert_is_built(recipe, ResidentMerger(merge_seed=SEED), tmp_path / "built")


@pytest.mark.parametrize("kind", KINDS)
def test_a_family_of_several_parts_is_mergekits(family: Family, kind: str) -> None:
    models = family(kind)
    (model,) = facts(models[0])
    ours = family_of(model)
    config = Configuration.model_validate(task_arithmetic(models, 0.5))
    theirs = get_architecture_info(config, MergeOptions())
    own_config = ModelReference.model_validate(str(models[0])).config()
    assert ours is not None
    assert ours.parts.keys() == theirs.modules.keys()
    expected = {w.name: w.optional for w in theirs.all_weights(own_config)}
    found = {w.name: w.is_optional for w in ours.weights(ours.n_layers(model))}
    assert found == expected
    axes = {w.name for w in theirs.all_weights(own_config) if w.vocabulary_axis is not None}
    assert axes == {w.name for w in (*ours.before, *ours.after) if w.vocabulary_axis is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_described_and_merged(family: Family, kind: str) -> None:
    models = family(kind)
    stored = set(load_file(models[0] / "model.safetensors"))
    described = describe(facts(*models))
    assert set(described.tensors) == stored
    assert described.beside
    for account in accounts_of(Recipe(task_arithmetic(models, 0.5)), facts(*models)):
        assert account.merged == stored
        assert not account.left_out


def definition_of(folders: list[Path], **fields: Any) -> MergeDefinition:
    base, one, other = map(str, folders)
    data = {
        "base_model": base,
        "merge_method": "task_arithmetic",
        "models": [one, other],
        "granularity": "layers",
        "layer_granularity": 2,
        **fields,
    }
    return MergeDefinition.model_validate(data)


def space_of(models: list[Path], definition: MergeDefinition) -> MergeSpace:
    return merge_space_for(definition)(definition, describe(facts(*models)), "bfloat16")


def recipe_at(space: MergeSpace, seed: int) -> dict[str, Any]:
    genotype = np.random.default_rng(seed).random(space.space.n_dims)
    return dict(space.recipe(space.space.decode(genotype)).config)


@pytest.mark.parametrize("kind", thinned(("llava", "mistral3", "qwen2_5_vl", "gemma3", "qwen3_vl")))
def test_the_language_part_is_merged_and_all_others_are_the_bases(
    family: Family, tmp_path: Path, kind: str
) -> None:
    models = family(kind)
    language = "model.language_model.layers" if kind == "llava" else "text_decoder"
    space = space_of(models, definition_of(models, modules={language: {}}))
    assert space.space.n_dims >= 4
    recipe = recipe_at(space, 1)
    assert len(recipe["modules"][language]["slices"]) == 2
    merger = ResidentMerger(merge_seed=SEED)
    merger.merge(Recipe(recipe_at(space, 2)))
    assert_is_built(recipe, merger, tmp_path / "built")
    stored = load_file(models[0] / "model.safetensors")
    built = load_file(tmp_path / "built" / "model.safetensors")
    kept = [name for name in stored if torch.equal(stored[name], built[name])]
    (account, *others) = accounts_of(Recipe(recipe), facts(*models))
    assert set(account.carried_over) == set(kept)
    assert account.merged == stored.keys() - set(kept)
    assert all(set(other.left_out) == set(kept) for other in others)


SLOW_METHODS = ("dare_ties", "della", "nearswap", "ram", "karcher")
METHODS = ("linear", "ties", "slerp", "sce")


@pytest.mark.parametrize(
    "method", [*METHODS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_METHODS)]
)
def test_a_part_that_is_not_merged_is_the_same_to_the_bit(family: Family, method: str) -> None:
    models = family("qwen2_5_vl")
    base, one, other = map(str, models)
    takes_two = METHODS_KNOWN[method].max_sources == 1
    fields: dict[str, Any] = {
        "merge_method": method,
        "models": [base, one] if takes_two else [base, one, other],
        "modules": {"text_decoder": {}},
    }
    if method == "karcher":
        fields["parameters"] = {"max_iter": {"integer": [1, 3]}}
    space = space_of(models, definition_of(models, **fields))
    live = ResidentMerger(merge_seed=SEED).merge(Recipe(recipe_at(space, 3))).module
    stored = load_file(models[0] / "model.safetensors")
    held = live.state_dict()
    for name in (name for name in stored if name.startswith("visual")):
        assert torch.equal(held[f"model.{name}"], stored[name]), name


@pytest.mark.parametrize("method", ["nuslerp", "model_stock", "multislerp"])
def test_a_method_that_gives_no_model_back_is_told(family: Family, method: str) -> None:
    models = family("qwen2_5_vl")
    filter_wise = {"filter_wise": {"choice": [True, False]}}
    row_wise = {"nuslerp_row_wise": {"choice": [True, False]}}
    fields = {
        "merge_method": method,
        "models": [str(one) for one in models[1:]][: METHODS_KNOWN[method].max_sources],
        "modules": {"text_decoder": {}},
        "parameters": {"model_stock": filter_wise, "nuslerp": row_wise}.get(method, {}),
    }
    with pytest.raises(GenomeError, match=f"{method} gives no model back that it merges alone"):
        space_of(models, definition_of(models, granularity="model", layer_granularity=0, **fields))


def test_each_part_has_models_and_values_of_its_own(family: Family, tmp_path: Path) -> None:
    models = family("qwen2_5_vl")
    one, other = (str(model) for model in models[1:])
    tower = {"models": [one], "parameters": {"weight": {"range": [0.2, 0.4]}}}
    modules = {"text_decoder": {"models": [one, other]}, "vision_tower": tower}
    space = space_of(models, definition_of(models, modules=modules))
    names = [parameter.name for parameter in space.space]
    assert "weight[text_decoder, model_1, embeddings]" in names
    (own,) = (one for one in space.space if "vision_tower" in one.name)
    assert (own.low, own.high) == (0.2, 0.4)
    recipe = recipe_at(space, 4)
    assert 0.2 <= recipe["modules"]["vision_tower"]["models"][0]["parameters"]["weight"] <= 0.4
    assert_is_built(recipe, ResidentMerger(merge_seed=SEED), tmp_path / "built")
    point = space.space.decode(np.random.default_rng(4).random(space.space.n_dims))
    found = space.point_of(Recipe(recipe))
    assert found == pytest.approx(point, abs=1e-3)


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ({"text_decodr": {}}, "has no part 'text_decodr'.*text_decoder"),
        ({"text_decoder": {"models": ["BASE"]}}, "every part is that of one model"),
        ({"vision_tower": {"parameters": {"weight": 0.5}}}, "part vision_tower: nothing varies"),
    ],
)
def test_parts_that_cannot_be_searched_are_told(
    family: Family, modules: dict[str, Any], said: str
) -> None:
    models = family("qwen2_5_vl")
    for block in modules.values():
        if "models" in block:
            block["models"] = [str(models[0])]
    with pytest.raises(GenomeError, match=said):
        space_of(models, definition_of(models, modules=modules))


def test_layers_of_several_parts_are_grouped_under_modules_alone(family: Family) -> None:
    models = family("qwen2_5_vl")
    with pytest.raises(
        GenomeError, match=r"each with layers of its own.*`modules: {text_decoder: {}}`"
    ):
        space_of(models, definition_of(models))


@pytest.mark.parametrize("fields", [{"space": "layers"}, {"merge_method": "slerp"}])
def test_spaces_that_cut_models_into_slices_are_told(
    family: Family, fields: dict[str, Any]
) -> None:
    models = family("qwen2_5_vl")
    block = {"models": [str(model) for model in models], "base_model": str(models[0]), **fields}
    with pytest.raises(GenomeError, match="cuts models into slices, Qwen2_5_VL"):
        space_of(models, MergeDefinition.model_validate(block))


def test_a_recipe_that_leaves_a_part_out_is_refused(family: Family) -> None:
    models = family("qwen2_5_vl")
    entries = task_arithmetic(models, 0.5)
    module = {"models": entries.pop("models")}
    found = refusals(
        Recipe({**entries, "modules": {"text_decoder": module}}), describe(facts(*models))
    )
    assert found == [
        "it names no multi_modal_projector and no vision_tower, whose tensors would be left out"
    ]


def _mergekits_own() -> dict[str, dict[str, Any]]:
    """The merges of mergekit's tests of LLaVA: method, base, parameters, weights of the models."""
    found: dict[str, dict[str, Any]] = {
        "linear": {"merge_method": "linear"},
        "slerp": {"merge_method": "slerp", "base": 1, "shared": {"t": 0.35}},
        "task_arithmetic": {"merge_method": "task_arithmetic", "base": 0},
        "breadcrumbs": {"merge_method": "breadcrumbs", "base": 0},
        "ties": {"merge_method": "ties", "base": 0, "own": {"density": 0.3}},
        "dare_ties": {"merge_method": "dare_ties", "base": 0, "own": {"density": 0.66}},
        "model_stock": {"merge_method": "model_stock", "base": 0},
        "model_stock by filter": {
            "merge_method": "model_stock",
            "base": 0,
            "shared": {"filter_wise": True},
        },
    }
    for base, row_wise, flatten in product((None, 0), (False, True), (False, True)):
        shared = {"nuslerp_row_wise": row_wise, "nuslerp_flatten": flatten}
        found[f"nuslerp {base} {row_wise} {flatten}"] = {
            "merge_method": "nuslerp",
            "base": base,
            "shared": shared,
        }
    opposed = {"merge_method": "nuslerp", "base": 0, "weights": (-0.5, 0.5)}
    found["nuslerp of opposed weights"] = opposed
    return found


MERGEKITS_OWN = _mergekits_own()


@pytest.mark.slow  # seventeen builds by mergekit
@pytest.mark.parametrize("case", MERGEKITS_OWN)
def test_what_mergekit_writes_of_hub_names_is_merged_alike_and_makes_no_model(
    tmp_path: Path, case: str
) -> None:
    given = MERGEKITS_OWN[case]
    family = [
        tiny_vision_model(tmp_path / str(seed), "llava", seed=seed, save_original_format=True)
        for seed in range(3)
    ]
    base, weights = given.get("base"), given.get("weights", (0.6, 0.4))
    models = [
        {"model": str(one), "parameters": {"weight": weight, **given.get("own", {})}}
        for one, weight in zip(family[1:], weights, strict=True)
    ]
    config = {
        "merge_method": given["merge_method"],
        "models": models,
        "dtype": "bfloat16",
        **({"parameters": given["shared"]} if "shared" in given else {}),
        **({} if base is None else {"base_model": str(family[base])}),
    }
    found: dict[str, torch.Tensor] = {}

    def take(merged: Any) -> None:
        for one in merged:
            tensor = one.tensor()
            if tensor is not None:
                found[one.name] = tensor.clone()

    merger = ResidentMerger(merge_seed=SEED)
    merger.send(Recipe(config), take, None)
    built = load_file(build_in_process(config, tmp_path / "out") / "model.safetensors")
    assert found.keys() == built.keys()
    assert [name for name in built if not torch.equal(found[name], built[name])] == []
    assert not any("language_model" in name for name in built)  # mergekit leaves it out
    with pytest.raises(ModelError, match="the models hold no"):
        merger.merge(Recipe(config))

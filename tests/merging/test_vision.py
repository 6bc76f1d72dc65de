"""Models that see: every part is merged as mergekit builds it, every tensor has its place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mergekit.architecture import get_architecture_info
from mergekit.common import ModelReference
from mergekit.options import MergeOptions
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from evomerge.genome.model_names import ModelName
from evomerge.merging.resident import ResidentMerger
from evomerge.merging.structure import Configuration
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.models.inspect import read_model
from evomerge.models.shared_layers import describe
from evomerge.recipe.accounting import accounts_of
from evomerge.recipe.plain import Recipe
from tests.merging.built import SEED, build_in_process
from tests.tiny_vision_models import tiny_vision_family

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


@pytest.mark.parametrize("kind", KINDS)
def test_all_parts_equal_the_build_and_are_overwritten_in_place(
    family: Family, tmp_path: Path, kind: str
) -> None:
    merger = ResidentMerger(merge_seed=SEED)
    merger.merge(Recipe(task_arithmetic(family(kind), 0.9)))  # its values must not remain
    assert merger.homes is not None
    assert_is_built(task_arithmetic(family(kind), 0.4), merger, tmp_path / "built")


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

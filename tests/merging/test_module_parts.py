"""Parts of models that see: which model gives what, and what a method cannot leave as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mergekit.merge_methods import registry

from evomerge.foundations.errors import GenomeError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.methods import METHODS
from evomerge.merging.registered_methods import register_methods
from evomerge.merging.resident import ResidentMerger
from tests.merging.built import SEED
from tests.merging.test_vision import assert_is_built, definition_of, recipe_at, space_of
from tests.tiny_vision_models import tiny_vision_family

PACKAGE = """
import torch
from mergekit.merge_methods import (
    BasePolicy, InputContract, PerInput, TensorGroup, merge_method, register,
)


@merge_method(name="doubled", contract=InputContract(base=BasePolicy.IGNORED))
def doubled(group: TensorGroup, weight: PerInput[float]) -> torch.Tensor:
    weights = weight.values_for(group.entries)
    return 2 * sum(one * entry.tensor for one, entry in zip(weights, group.entries, strict=True))


register(doubled)
"""
SPACE: dict[str, Any] = {"granularity": None, "layer_granularity": 0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return tiny_vision_family(tmp_path_factory.mktemp("models"))


@pytest.fixture
def doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_doubled.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    register_methods(["my_doubled"], Permissions(code=True))
    yield
    del registry._METHODS["doubled"]
    METHODS._registered.clear()


@pytest.mark.usefixtures("doubled")
def test_nobody_knows_whether_a_method_of_a_package_gives_a_model_back(models: list[Path]) -> None:
    fields: dict[str, Any] = {
        **SPACE,
        "merge_method": "doubled",
        "merge_method_packages": ["my_doubled"],
        "models": [str(one) for one in models],
        "parameters": {"weight": {"range": [0, 1]}},
    }
    with pytest.raises(GenomeError, match="doubled gives no model back that it merges alone"):
        space_of(models, definition_of(models, modules={"text_decoder": {}}, **fields))
    every = {"text_decoder": {}, "vision_tower": {}, "multi_modal_projector": {}}
    assert space_of(models, definition_of(models, modules=every, **fields)).space.n_dims == 9


def test_the_order_of_a_parts_models_is_its_own(models: list[Path], tmp_path: Path) -> None:
    """The donor is the genome's, wherever a part names it."""
    base, one, other = map(str, models)
    modules = {"text_decoder": {"models": [other, one, base]}}
    fields = {**SPACE, "merge_method": "linear", "base_model": None, "models": [base, one, other]}
    recipe = recipe_at(space_of(models, definition_of(models, modules=modules, **fields)), 1)
    assert recipe["base_model"] == base
    assert [m["model"] for m in recipe["modules"]["text_decoder"]["models"]] == [other, one, base]
    assert recipe["modules"]["vision_tower"]["models"][0]["model"] == base
    modules = {"text_decoder": {"models": [other, one]}}
    with pytest.raises(GenomeError, match=f"{base} is not among its models"):
        space_of(models, definition_of(models, modules=modules, **fields))


@pytest.mark.parametrize("has_base", [True, False])
def test_pairs_of_a_part_lie_between_any_two_of_its_models(
    models: list[Path], tmp_path: Path, has_base: bool
) -> None:
    """Each slice has a base of its own, so the one that gives the rest need not be among them."""
    base, one, other = map(str, models)
    fields = {
        "merge_method": "slerp",
        "base_model": base if has_base else None,
        "models": [one, other, base],
        "modules": {"text_decoder": {"models": [one, other, base]}},
        "granularity": None,
    }
    space = space_of(models, definition_of(models, **fields))
    recipe = recipe_at(space, 1)
    assert recipe["base_model"] == (base if has_base else one)
    assert_is_built(recipe, ResidentMerger(merge_seed=SEED), tmp_path / "built")

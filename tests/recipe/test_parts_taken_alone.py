"""A part that is taken from one model: as it is, unless it is scaled or merged later."""

from __future__ import annotations

from typing import Any

import pytest

from evomerge.genome.model_names import ModelName
from evomerge.recipe.plain import Recipe
from evomerge.recipe.tensor_reads import reads_of


def of_one(model: str, **parameters: float) -> dict[str, Any]:
    entry: dict[str, Any] = {"model": model}
    return {"models": [{**entry, **({"parameters": parameters} if parameters else {})}]}


def of_two(*models: str) -> dict[str, Any]:
    return {"models": [{"model": one, "parameters": {"weight": 0.5}} for one in models]}


def merge(sight: dict[str, Any], **fields: Any) -> dict[str, Any]:
    modules = {"text": of_two("a", "b"), "sight": sight}
    return {"merge_method": "linear", **fields, "modules": modules}


def stages(last: dict[str, Any]) -> dict[str, Any]:
    return {"stages": [merge(of_one("a"), name="first"), last]}


@pytest.mark.parametrize(
    ("recipe", "is_alone"),
    [
        (merge(of_one("a")), True),
        (merge(of_one("a", weight=1.0)), True),
        (merge(of_one("a", weight=0.5)), False),
        (merge({"slices": [{"sources": [{"model": "a", "layer_range": [0, 2]}]}]}), True),
        (merge(of_one("a"), merge_method="passthrough", parameters={"scale": 0.5}), False),
        (stages(merge(of_one("first"))), True),
        (stages(merge(of_two("first", "b"))), False),
        (stages({"merge_method": "linear", **of_two("first", "b")}), False),
    ],
)
def test_it_is_carried_over_where_no_merge_changes_it(
    recipe: dict[str, Any], is_alone: bool
) -> None:
    reads = [one for one in reads_of(Recipe(recipe), ModelName(path="a"), "sight") if one.is_any]
    assert reads
    assert all(one.is_alone for one in reads) is is_alone

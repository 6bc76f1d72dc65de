"""The merges that a mixture of experts is made of: what each is, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from evomerge.genome.model_names import ModelName
from evomerge.recipe.base import Use
from evomerge.recipe.moe import joined_in
from evomerge.recipe.moe_outputs import why_dropped
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import merged_in


@dataclass(frozen=True)
class Part:
    """One model of a mixture, as often as it stands there.

    Attributes:
        name: What the mixture calls it.
        model: The same, as a model.
        recipe: What it is: a merge, or the model as it is.
        is_model: Whether it is a model of the user's.
        is_base: Whether attention, norms, embeddings and head are its.
        experts: Numbers of the experts that it is, from 0, each with its residual scale.
        shared: Residual scales of the shared experts that it is.
    """

    name: str
    model: ModelName
    recipe: Recipe
    is_model: bool
    is_base: bool
    experts: tuple[tuple[int, float | None], ...]
    shared: tuple[float | None, ...]


def parts_of(recipe: Recipe) -> tuple[Part, ...]:
    """The parts of a mixture, the base first.

    Args:
        recipe: Of that kind, its documents checked.
    """
    joined = joined_in(recipe.config)
    merges = dict(zip(recipe.made, recipe.documents, strict=True))
    experts, shared = joined["experts"], joined.get("shared_experts") or []
    base = _name(joined["base_model"])
    names = dict.fromkeys((base, *(_name(one["source_model"]) for one in (*experts, *shared))))
    return tuple(
        Part(
            name=name.text,
            model=name,
            recipe=Recipe(merges[name.path]) if name.path in merges else _as_it_is(name),
            is_model=name.path not in merges,
            is_base=name == base,
            experts=tuple(
                (index, one.get("residual_scale"))
                for index, one in enumerate(experts)
                if _name(one["source_model"]) == name
            ),
            shared=tuple(
                one.get("residual_scale") for one in shared if _name(one["source_model"]) == name
            ),
        )
        for name in names
    )


def uses_of(config: Mapping[str, Any]) -> tuple[Use, ...]:
    """What a mixture is made of: the base without its MLPs, unless it is an expert too; the MLPs.

    Args:
        config: Of that kind.
    """

    def use(part: Part) -> Use:
        is_expert = bool(part.experts or part.shared)
        dropped = partial(why_dropped, joined_in(config), is_base=part.is_base, is_expert=is_expert)
        return Use(part.recipe.config, dropped)

    return tuple(map(use, parts_of(Recipe(config))))


def merges_of_merges(recipe: Recipe) -> tuple[str, ...]:
    """The merges of a mixture that its other merges are made of, in the order they are made."""
    used = {model.path for merge in recipe.documents for model in merged_in(merge)}
    return tuple(name for name in recipe.made if name in used)


def _name(value: Any) -> ModelName:
    return ModelName.model_validate(value)


def _as_it_is(model: ModelName) -> Recipe:
    return Recipe({"merge_method": "passthrough", "models": [{"model": model.in_recipe}]})

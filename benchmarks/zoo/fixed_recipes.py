"""The merges one would try without a search, as candidates of a genome's space."""

from __future__ import annotations

from typing import Any

from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.baselines import baselines
from evomerge.recipe import Recipe
from evomerge.trial import Candidate

TASK_ARITHMETIC = "task arithmetic"
_WEIGHTS = (0.3, 0.5, 0.7, 1.0)


def fixed_recipes(merge_space: MergeSpace) -> list[Candidate]:
    """A run's baselines, task arithmetic at the usual weights, slerp in the middle.

    A merge that is among the baselines already is not there twice; only what has a base has
    task vectors, and only two models have a middle.
    """
    found = {candidate.recipe.digest: candidate for candidate in baselines(merge_space)}
    for origin, recipe in _usual(merge_space):
        found.setdefault(recipe.digest, Candidate(len(found), origin, recipe))
    return list(found.values())


def _usual(merge_space: MergeSpace) -> list[tuple[str, Recipe]]:
    definition = merge_space.definition
    models = [source.model for source in definition.models]
    base = definition.base_model
    found: list[tuple[str, Recipe]] = []
    for weight in _WEIGHTS if base is not None else ():
        named = [{"model": m.in_recipe, "parameters": {"weight": weight}} for m in models]
        content: dict[str, Any] = {"merge_method": "task_arithmetic", "models": named}
        recipe = Recipe({**content, **merge_space.frame(base)})
        found.append((f"{TASK_ARITHMETIC} {weight}", recipe))
    if len(models) == 2:
        named = [{"model": model.in_recipe} for model in models]
        content = {"merge_method": "slerp", "models": named, "parameters": {"t": 0.5}}
        found.append(("slerp 0.5", Recipe({**content, **merge_space.frame(models[0])})))
    return found

"""The first trials of every run: what a merge has to beat."""

from __future__ import annotations

from typing import Any

from evomerge.merge_spaces.base import MergeSpace
from evomerge.recipe import Recipe
from evomerge.trial import Candidate


def baselines(merge_space: MergeSpace) -> list[Candidate]:
    """Each model, the base and the uniform average, with their points where the space has them."""
    definition = merge_space.definition
    models = [source.model for source in definition.models]
    found: list[tuple[str, Recipe, dict[str, Any] | None]] = [
        (f"model {model}", merge_space.model_recipe(model), merge_space.source_point(index))
        for index, model in enumerate(models)
    ]
    base = definition.base_model
    if base is not None and base not in models:
        found.append((f"base {base}", merge_space.model_recipe(base), merge_space.base_point()))
    if len(models) > 1:
        found.append(("uniform average", merge_space.average_recipe(), merge_space.average_point()))
    return [
        Candidate(
            trial_id,
            origin,
            recipe,
            None if point is None else merge_space.space.encode(point),
            point or {},
        )
        for trial_id, (origin, recipe, point) in enumerate(found)
    ]

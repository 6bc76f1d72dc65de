"""Models that recipes take as they are: nothing is merged of them, so mergekit need not know them.

A recipe may give one back, and a mixture lets several answer side by side.
"""

from __future__ import annotations

from evomerge.genome.model_names import ModelName
from evomerge.recipe.plain import Recipe
from evomerge.recipe.pool import models_mixed
from evomerge.recipe.walk import merged_in

_OF_A_COPY = {"merge_method", "models", "dtype", "out_dtype"}


def copied(recipe: Recipe) -> ModelName | None:
    """The model that a recipe gives back as it is; None where it does something to it."""
    before, last = recipe.parts
    is_copy = not before and last.get("merge_method") == "passthrough"
    if not is_copy or set(last) - _OF_A_COPY:
        return None
    entries = last.get("models") or []
    return merged_in(entries)[0] if [*map(set, entries)] == [{"model"}] else None


def whole_models(recipe: Recipe) -> frozenset[ModelName]:
    """The models that answer as they are, of which no merge in it takes anything."""
    alone = copied(recipe)
    if alone is not None:
        return frozenset((alone,))
    of_merges = {model for part in recipe.parts[0] for model in merged_in(part)}
    return frozenset(merged_in([{"model": one} for one in models_mixed(recipe.config)])) - of_merges

"""The merges that one would have tried without a search: fixed recipes of a genome's models.

Task arithmetic with one weight for every task vector (arXiv:2212.04089), TIES (arXiv:2306.01708)
and SLERP half way. A density of 0.5 is what published TIES recipes have most; mergekit's own
default, 1, would trim nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.genome.inputs import inputs_of
from evomerge.genome.methods import method_named
from evomerge.merge_spaces.base import MergeSpace
from evomerge.nouns.origin import Origin, OriginKind
from evomerge.recipe.plain import Recipe

Named = tuple[Origin, Recipe, dict[str, Any] | None]  # origin, recipe, its point of the space
TASK_VECTOR_WEIGHTS = (0.3, 0.5, 0.7, 1.0)
TIES_DENSITY = 0.5
_PLAIN: Mapping[str, Any] = {"lambda": 1.0, "rescale": False}  # where a recipe does not say


def task_arithmetic(merge_space: MergeSpace) -> Iterator[Named]:
    """The same weight for the task vector of every model, where there is a base."""
    if _n_task_vectors(merge_space):
        for weight in TASK_VECTOR_WEIGHTS:
            values = {"weight": weight}
            name = f"task arithmetic {weight}"
            yield _named(merge_space, name, "task_arithmetic", values, {"normalize": False})


def ties(merge_space: MergeSpace) -> Iterator[Named]:
    """Equal weights that are divided by their sum, half of each task vector kept."""
    if _n_task_vectors(merge_space) > 1:
        values = {"weight": 1.0, "density": TIES_DENSITY}
        yield _named(merge_space, "ties", "ties", values, {"normalize": True})


def slerp(merge_space: MergeSpace) -> Iterator[Named]:
    """Half way between the two models, where there are two."""
    definition = merge_space.definition
    models = [source.model for source in definition.models]
    is_pair = len(inputs_of(models, definition.base_model, method_named("slerp")).models) == 2
    if is_pair and merge_space.folds_adapters and merge_space.has_one_depth:
        yield _named(merge_space, "slerp 0.5", "slerp", {}, {"t": 0.5})


def _n_task_vectors(merge_space: MergeSpace) -> int:
    """Models measured from a base; adapters summed apart, and models of other depths, are none."""
    definition = merge_space.definition
    is_possible = merge_space.folds_adapters and merge_space.has_one_depth
    if definition.base_model is None or not is_possible:
        return 0
    return sum(source.model != definition.base_model for source in definition.models)


def _named(
    merge_space: MergeSpace,
    name: str,
    method: str,
    of_each: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> Named:
    """A recipe as a space would write it, with the point of the space that it is.

    Args:
        merge_space: Whose models.
        name: What it is called.
        method: Its merge method.
        of_each: Parameters of every model that is no base.
        shared: Those of the whole recipe.
    """
    definition = merge_space.definition
    models = [source.model for source in definition.models]
    inputs = inputs_of(models, definition.base_model, method_named(method))
    entries: list[dict[str, Any]] = [{"model": model.in_recipe} for model in inputs.models]
    for index in inputs.weighted if of_each else ():
        entries[index]["parameters"] = dict(of_each)
    config = {"merge_method": method, "models": entries, "parameters": dict(shared)}
    point = merge_space.uniform_point(method, {**_PLAIN, **shared, **of_each})
    return (
        Origin(OriginKind.FIXED, name),
        Recipe({**config, **merge_space.frame(inputs.base)}),
        point,
    )

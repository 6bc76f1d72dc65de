"""The first trials of every run: what a merge has to beat."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from evomerge.genome.words import BASELINES, SIDE_BY_SIDE, USUAL_BASELINES
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.fixed_recipes import Named, slerp, task_arithmetic, ties
from evomerge.merge_spaces.mixture_weights import uniform_mixture
from evomerge.nouns.origin import Origin, OriginKind
from evomerge.nouns.trial import Candidate
from evomerge.recipe.kept_stages import stage_in


def baselines(merge_space: MergeSpace, kinds: Collection[str] = USUAL_BASELINES) -> list[Candidate]:
    """What was there before and what one would have tried, each with its point of the space.

    Args:
        merge_space: Of the genome.
        kinds: The genome's ``baselines``; those that its models do not allow are no trials.
    """
    found = [named for kind in BASELINES if kind in kinds for named in _KINDS[kind](merge_space)]
    return [
        Candidate(
            trial_id,
            origin,
            merge_space.written(recipe),
            None if point is None else merge_space.space.encode(point),
            point or {},
        )
        for trial_id, (origin, recipe, point) in enumerate(found)
    ]


def _models(merge_space: MergeSpace) -> Iterator[Named]:
    """Its models, and those that earlier stages made some of them from."""
    definition, made = merge_space.definition, merge_space.made
    for index, source in enumerate(definition.models):
        model, point = source.model, merge_space.source_point(index)
        name = stage_in(model.path) if model.path in made else str(model)
        yield Origin(OriginKind.MODEL, name), merge_space.model_recipe(model), point
    own = {definition.base_model, *(source.model for source in definition.models)}
    before = dict.fromkeys(model for recipe in made.values() for model in recipe.models)
    for model in (model for model in before if model not in own):
        yield Origin(OriginKind.MODEL, str(model)), merge_space.model_recipe(model), None


def _base(merge_space: MergeSpace) -> Iterator[Named]:
    definition = merge_space.definition
    base = definition.base_model
    if base is not None and base not in [source.model for source in definition.models]:
        name = stage_in(base.path) if base.path in merge_space.made else str(base)
        yield (
            Origin(OriginKind.BASE, name),
            merge_space.model_recipe(base),
            merge_space.base_point(),
        )


def _average(merge_space: MergeSpace) -> Iterator[Named]:
    if len(merge_space.definition.models) > 1 and merge_space.has_one_depth:
        origin = Origin(OriginKind.AVERAGE, "mixture" if merge_space.mixes else "")
        yield origin, merge_space.average_recipe(), merge_space.average_point()


def _mixture(merge_space: MergeSpace) -> Iterator[Named]:
    """Where the average of a space is no mixture already; a mixture holds no merges of merges."""
    models = [source.model for source in merge_space.definition.models]
    made = [merge_space.made[one.path] for one in models if one.path in merge_space.made]
    if len(models) > 1 and not merge_space.mixes and not any(one.parts[0] for one in made):
        yield Origin(OriginKind.MIXTURE), uniform_mixture(models), None


_KINDS: Mapping[str, Callable[[MergeSpace], Iterator[Named]]] = {
    "models": _models,
    "base": _base,
    "average": _average,
    "task_arithmetic": task_arithmetic,
    "ties": ties,
    "slerp": slerp,
    SIDE_BY_SIDE: _mixture,
}

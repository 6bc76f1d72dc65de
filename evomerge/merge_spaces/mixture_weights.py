"""Mixtures: the next-token distributions of the models combined, each with a searched weight.

What NYU's mixture (`mixture_model.py`) does with equal weights, and Token Swarms with searched
ones. No weights are merged, so a mixture costs what all of its models cost together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, ClassVar, Literal

from pydantic import Field

from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces.base import MergeSpace, SpaceSettings
from evomerge.merge_spaces.idle import IdleParameter
from evomerge.merge_spaces.names import short_names
from evomerge.merge_spaces.unit_weights import Shares
from evomerge.nouns.space import Point, Space
from evomerge.recipe.plain import Recipe, rounded
from evomerge.recipe.pool import MEAN, MEANS, MEMBERS, TASKS, UNMERGED, Mean, Pool, models_mixed

# What a mixture takes from its first model, or leaves as each model has it.
_OF_MERGES = ("chat_template", "out_dtype")


class MixtureSettings(SpaceSettings):
    """How distributions are combined, and where their weights hold."""

    mean: Mean = Field(
        "arithmetic",
        description="Of the models' probabilities: `arithmetic`, the sum of w p; `geometric`, "
        "the product of p^w, divided by its sum.",
    )
    per: Literal["model", "task"] = Field(
        "model",
        description="`model`: one weight per model. `task`: for each task weights of its own; a "
        "validation or holdout task has those of the search task of its name, else of its place.",
    )


def uniform_mixture(models: Sequence[ModelName]) -> Recipe:
    """Equal weights for all of some models, and the arithmetic mean."""
    weight = rounded(1 / len(models))
    members = [{"model": model.in_recipe, "weight": weight} for model in models]
    return Recipe({MEMBERS: members, MEAN: MEANS[0]})


class MixtureWeights(MergeSpace):
    """Weights >= 0 that sum to 1, for all tasks or for each of them."""

    name: ClassVar[str] = "mixture"
    Settings: ClassVar[type[SpaceSettings]] = MixtureSettings
    settings: MixtureSettings
    merge_method: ClassVar[str] = "linear"  # what its models have to fit; no recipe names it
    reads: ClassVar[frozenset[str]] = frozenset()
    unlearned: ClassVar[str] = "a mixture merges no weights"
    unadapted: str = UNMERGED
    mixes: ClassVar[bool] = True
    one_vocabulary: ClassVar[str] = "a mixture adds probabilities token by token"

    @classmethod
    def _unfit(cls, definition: MergeDefinition) -> Iterator[MisfitError]:
        yield from (one for one in super()._unfit(definition) if one.path != ("merge_method",))
        if definition.merge_method not in ("", cls.merge_method):
            what = f"a mixture merges nothing, got {definition.merge_method}"
            yield MisfitError(what, "merge_method", fix="Remove it, or use space: parameters.")
        if len(definition.models) < 2:
            yield MisfitError("a mixture is of two models or more, got 1", "models")
        for key in _OF_MERGES:
            if getattr(definition, key) is not None:
                what = "a mixture merges nothing: each of its models stays as it is"
                yield MisfitError(what, key, fix="Remove it, or use space: parameters.")

    def _build(self) -> Space:
        self.models = tuple(source.model for source in self.definition.models)
        self._groups = (self.settings.per == "task" and self.tasks) or ((),)
        names = short_names(self.models)[:-1]
        self._shares = [
            Shares(tuple(f"share[{', '.join((name, *group[:1]))}]" for name in names))
            for group in self._groups
        ]
        parameters = tuple(one for shares in self._shares for one in shares.parameters)
        self._start = {one.name: one.initial for one in parameters}  # of what changes nothing
        if self.architecture.agree(self.models, self.architecture.tensors):
            self.idle = tuple(IdleParameter(one.name, "") for one in parameters)
            return Space(())
        return Space(parameters)

    def has_shares(self) -> bool:
        """Whether coordinates are shares of what is left: all of them."""
        return True

    def recipe(self, point: Point) -> Recipe:
        """The mixture with these weights; of tasks without their own, the mean of all tasks'."""
        point = {**self._start, **point}
        found = [shares.decode([point[name] for name in shares.names]) for shares in self._shares]
        whole = [sum(column) / len(found) for column in zip(*found, strict=True)]
        members = [
            {"model": model.in_recipe, "weight": rounded(weight)}
            for model, weight in zip(self.models, whole, strict=True)
        ]
        config: dict[str, Any] = {MEMBERS: members, MEAN: self.settings.mean}
        pairs = zip(self._groups, found, strict=True)
        of_tasks = {task: [*map(rounded, own)] for group, own in pairs for task in group}
        return Recipe({**config, TASKS: of_tasks} if of_tasks else config)

    def model_recipe(self, model: ModelName) -> Recipe:
        """A model as it is, in its own dtype as among the others: mergekit may not read it."""
        return Recipe({"merge_method": "passthrough", "models": [{"model": model.in_recipe}]})

    def average_recipe(self) -> Recipe:
        """The mixture with equal weights."""
        return self.recipe(self.average_point())

    def point_of(self, recipe: Recipe) -> dict[str, Any] | None:
        """See the base class; of a mixture of these models, with weights where this space has."""
        if models_mixed(recipe.config) != [model.in_recipe for model in self.models]:
            return None
        pool = Pool.of(recipe.config)
        if pool.mean != self.settings.mean or {*pool.of_tasks} != {*chain(*self._groups)}:
            return None
        own = [pool.of_tasks[group[0]] if group else pool.weights for group in self._groups]
        return self._point(own)

    def source_point(self, index: int) -> dict[str, Any]:
        """All the weight on one model."""
        return self._everywhere([float(i == index) for i in range(len(self.models))])

    def average_point(self) -> dict[str, Any]:
        """Equal weights."""
        return self._everywhere([1.0] * len(self.models))

    def base_point(self) -> dict[str, Any] | None:
        """The base is no part of a mixture unless it stands among the models."""
        base = self.definition.base_model
        return self.source_point(self.models.index(base)) if base in self.models else None

    def _everywhere(self, weights: Sequence[float]) -> dict[str, Any]:
        return self._point([weights] * len(self._shares))

    def _point(self, weights: Sequence[Sequence[float]]) -> dict[str, Any]:
        """The point with these weights, those of one task after the other."""
        found: dict[str, Any] = {}
        for shares, own in zip(self._shares, weights, strict=True):
            found.update(zip(shares.names, shares.encode(own), strict=True))
        return found if len(self.space) else {}  # none of them varies where all models are equal

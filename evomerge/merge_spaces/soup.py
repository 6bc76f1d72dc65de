"""Model soups: each of several models is in a uniform average, or left out of it.

A soup needs at least one model: the point that leaves out all of them means the soup of all. What
a greedy soup tries, one model after the other, are points of the space.

Source: Wortsman et al., Model soups (2022), arXiv:2203.05482.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.misfit import MisfitError
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.idle import IdleParameter
from evomerge.merge_spaces.names import short_names
from evomerge.nouns.space import Choice, Point, Space
from evomerge.recipe.plain import Recipe

IN, OUT = "in", "out"


class Soup(MergeSpace):
    """One choice per model, for the whole of it."""

    name: ClassVar[str] = "soup"
    merge_method: ClassVar[str] = "linear"
    reads: ClassVar[frozenset[str]] = frozenset()
    unlearned: ClassVar[str] = "a model is in a soup or left out of it"
    one_vocabulary: ClassVar[str] = "models of a soup have one vocabulary, whichever of them are in"

    @classmethod
    def _unfit(cls, definition: MergeDefinition) -> Iterator[MisfitError]:
        yield from super()._unfit(definition)
        if len(definition.models) < 2:
            yield MisfitError("a soup chooses among two models or more, got 1", "models")

    def _build(self) -> Space:
        self.models = tuple(source.model for source in self.definition.models)
        self._choices = tuple(
            Choice(f"model[{name}]", (IN, OUT), initial=IN) for name in short_names(self.models)
        )
        if self.architecture.agree(self.models, self.architecture.tensors):
            self.idle = tuple(IdleParameter(choice.name, "") for choice in self._choices)
            return Space(())
        return Space(self._choices)

    def recipe(self, point: Point) -> Recipe:
        """The uniform average of the models that are in."""
        pairs = zip(self._choices, self.models, strict=True)
        chosen = [model for choice, model in pairs if point.get(choice.name) == IN]
        return self.average_of(chosen or self.models)

    def point_of(self, recipe: Recipe) -> dict[str, Any] | None:
        """See the base class; weights are 1 there, and divided by their sum."""
        point = self._point([model in recipe.models for model in self.models])
        return point if self.recipe(point).digest == recipe.digest else None

    def source_point(self, index: int) -> dict[str, Any]:
        """One model in, the others out."""
        return self._point([i == index for i in range(len(self.models))])

    def average_point(self) -> dict[str, Any]:
        """All models in."""
        return self._point([True] * len(self.models))

    def base_point(self) -> dict[str, Any] | None:
        """The base is no part of a soup unless it stands among the models."""
        base = self.definition.base_model
        return self.source_point(self.models.index(base)) if base in self.models else None

    def _point(self, is_in: list[bool]) -> dict[str, Any]:
        pairs = zip(self.space, is_in, strict=False)  # none of them varies where all are equal
        return {parameter.name: IN if one else OUT for parameter, one in pairs}

"""One part of the models as a search sees it: a merge with a space of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from evomerge.foundations.errors import GenomeError, Problem
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces import merge_space_for
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.idle import IdleParameter
from evomerge.merge_spaces.own_filters import with_own_filters
from evomerge.nouns.space import Parameter, Point
from evomerge.recipe.plain import Recipe

_OWN = ("models", "slices", "parameters")
_UNGROUPED = {"granularity": "model", "layer_granularity": 0, "smooth": False}


class RecipeWriter(Protocol):
    """Who makes recipes of points."""

    def recipe(self, point: Point) -> Recipe:
        """What a point means."""


@dataclass(frozen=True)
class SearchedPart:
    """One part of a space.

    Attributes:
        space: Of its merge.
        label: For names of parameters; empty where it is the only one.
    """

    space: MergeSpace
    label: str

    @classmethod
    def of(cls, whole: MergeSpace, name: str, label: str, base: ModelName | None) -> SearchedPart:
        """A part, with a space of its own.

        Args:
            whole: The space of all parts.
            name: mergekit's name of the part.
            label: As the attribute.
            base: The ``base_model`` of all parts, wherever it stands among the models of one.

        Raises:
            GenomeError: its merge cannot be searched.
        """
        architecture = whole.architecture
        own = replace(
            architecture.parts[name],
            name=architecture.name,
            depths=architecture.depths,
            alike=architecture.alike,
        )
        definition = with_own_filters(_definition(whole, name, base), own, architecture)
        try:
            unfit = [Problem(str(one), "genome.modules", one.fix) for one in definition.misfits()]
            if unfit:
                raise GenomeError.of(unfit)
            space = merge_space_for(definition)(definition, own, whole.out_dtype)
        except GenomeError as error:
            raise GenomeError.of(
                Problem(f"part {name}: {p.what}", p.where, p.fix) for p in error.problems
            ) from error
        return cls(space, label)

    @property
    def parameters(self) -> list[Parameter]:
        """What of it varies, under names of its own."""
        return [replace(one, name=self.named(one.name)) for one in self.space.space]

    @property
    def idle(self) -> list[IdleParameter]:
        """What of it would change nothing."""
        return [replace(one, name=self.named(one.name)) for one in self.space.idle]

    @property
    def frame(self) -> dict[str, Any]:
        """What stands in a recipe around its merge."""
        return {key: value for key, value in self._at_start.items() if key not in _OWN}

    @property
    def names_bases(self) -> bool:
        """Whether each of its slices names a base of its own."""
        slices = self._at_start.get("slices") or ()
        return bool(slices) and all("base_model" in one for one in slices)

    @property
    def _at_start(self) -> Mapping[str, Any]:
        """The recipe where its search starts."""
        space = self.space
        return space.recipe(space.space.decode(space.space.initial)).config

    def module(self, point: Point, written: RecipeWriter) -> dict[str, Any]:
        """Its merge, as it stands under ``modules:``.

        Args:
            point: Of all parts; what nobody reads may be missing.
            written: Who writes it.
        """
        names = {one.name: self.named(one.name) for one in self.space.space}
        config = written.recipe({k: point[n] for k, n in names.items() if n in point}).config
        return {key: config[key] for key in _OWN if key in config}

    def point_of(self, recipe: Recipe) -> dict[str, Any] | None:
        """Its part of the point whose merge this is."""
        return self.own(self.space.point_of(recipe))

    def own(self, point: Point | None) -> dict[str, Any] | None:
        """A point of its space under names of its own."""
        if point is None:
            return None
        return {self.named(name): value for name, value in point.items()}

    def named(self, name: str) -> str:
        """What a parameter of its space is called."""
        if not self.label:
            return name
        parameter, _, inside = name.partition("[")
        rest = f", {inside}" if inside else "]"
        return f"{parameter}[{self.label}{rest}"


def _definition(whole: MergeSpace, name: str, base: ModelName | None) -> MergeDefinition:
    """The ``genome:`` block of a part: that of the genome, and what it says itself."""
    genome, block = whole.definition, whole.definition.modules[name]
    models = block.models or genome.models
    has_base = base in [source.model for source in models]
    return genome.model_copy(
        update={
            "modules": {},
            "space": None,
            "models": models,
            "base_model": base if has_base else genome.base_model,
            "parameters": {**genome.parameters, **block.parameters},
            **({} if name == whole.architecture.language else _UNGROUPED),
        }
    )

"""One expert of a mixture as a search sees it: a merge with a space of its own, or a model.

Of all experts but the first only the MLPs reach the mixture: their merges vary nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.foundations.errors import GenomeError, Problem
from evomerge.genome.merge_block import MergeDefinition
from evomerge.merge_spaces import merge_space_for
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.idle import IdleParameter
from evomerge.merge_spaces.moe_settings import MoeExpert
from evomerge.merge_spaces.own_filters import with_own_filters
from evomerge.models.architecture import Architecture
from evomerge.nouns.space import Parameter, Point
from evomerge.recipe.plain import Recipe
from evomerge.recipe.stage_names import NAME

_MLP = ".mlp."


@dataclass(frozen=True)
class SearchedExpert:
    """One expert of a space.

    Attributes:
        number: From 1.
        settings: What the genome says of it.
        space: The space of its merge; None: it is a model as it is.
        fixed: The merge that it is, where it is one and nothing of it varies.
        stage: What its merge is called; empty where it has none.
    """

    number: int
    settings: MoeExpert
    space: MergeSpace | None
    fixed: Recipe | None
    stage: str

    @classmethod
    def of(cls, whole: MergeSpace, experts: Sequence[MoeExpert], index: int) -> SearchedExpert:
        """An expert, with a space of its own where it is a merge.

        Args:
            whole: The space of the mixture.
            experts: All of its experts.
            index: Which one, from 0.

        Raises:
            GenomeError: its merge cannot be searched.
        """
        before, settings = experts[:index], experts[index]
        stage = NAME.format(1 + sum(map(_is_merged, before))) if _is_merged(settings) else ""
        if settings.model is not None:
            fixed = whole.model_recipe(settings.model) if stage else None
            return cls(index + 1, settings, None, fixed, stage)
        definition = definition_of(whole.definition, settings)
        architecture = whole.architecture
        if index:
            definition = with_own_filters(definition, _mlps(architecture), architecture)
            architecture = _mlps(architecture)
        try:
            space = merge_space_for(definition)(definition, architecture, whole.out_dtype)
        except GenomeError as error:
            raise GenomeError.of(
                Problem(f"expert {index + 1}: {p.what}", p.where, p.fix) for p in error.problems
            ) from error
        return cls(index + 1, settings, space, None, stage)

    @property
    def model(self) -> Any:
        """What the mixture calls it."""
        return self.stage or (self.settings.model.in_recipe if self.settings.model else "")

    @property
    def entry(self) -> dict[str, Any]:
        """It, as mergekit-moe reads it."""
        scale = self.settings.residual_scale
        entry = {"source_model": self.model, **prompts_of(self.settings)}
        return entry if scale is None else {**entry, "residual_scale": scale}

    @property
    def parameters(self) -> list[Parameter]:
        """What of it varies, under names of its own."""
        own = self.space.space.parameters if self.space else ()
        return [replace(one, name=self._named(one.name)) for one in own]

    @property
    def idle(self) -> list[IdleParameter]:
        """What of it would change nothing."""
        own = self.space.idle if self.space else ()
        return [replace(one, name=self._named(one.name)) for one in own]

    def recipe(self, point: Point) -> Recipe:
        """Its merge."""
        if self.space is None:
            return self.fixed or Recipe({})
        own = self.space.space.parameters
        return self.space.recipe({one.name: point[self._named(one.name)] for one in own})

    def point_of(self, recipe: Recipe) -> dict[str, Any] | None:
        """Its part of the point whose merge this is."""
        if self.space is None:
            return {} if recipe == self.fixed else None
        own = self.space.point_of(recipe)
        return None if own is None else {self._named(name): value for name, value in own.items()}

    def _named(self, name: str) -> str:
        parameter, _, inside = name.partition("[")
        rest = f", {inside}" if inside else "]"
        return f"{parameter}[expert {self.number}{rest}"


def _is_merged(expert: MoeExpert) -> bool:
    """Whether a merge is made for it: mergekit-moe folds no adapters."""
    return expert.model is None or expert.model.lora is not None


def prompts_of(block: Any) -> dict[str, Any]:
    """The prompts of an expert or a shared one, as mergekit-moe reads them."""
    given = {key: getattr(block, key) for key in ("positive_prompts", "negative_prompts")}
    return {key: list(texts) for key, texts in given.items() if texts}


def definition_of(whole: MergeDefinition, expert: MoeExpert) -> MergeDefinition:
    """The ``genome:`` block of one expert: that of the genome, and what it says itself.

    Raises:
        ValidationError: these do not fit one another.
    """
    given = {key: getattr(whole, key) for key in whole.model_fields_set if key != "space"}
    return MergeDefinition.model_validate({**given, **expert.merge})


def _mlps(architecture: Architecture) -> Architecture:
    """The tensors that an expert gives; for all others a merge has any value."""
    own = tuple(name for name in architecture.layer_tensors if _MLP in name)
    return replace(
        architecture, embeddings=(), layer_tensors=own, final_norm=(), head=(), has_buffers=True
    )

"""The contract of every merge space: what varies, and what a point means as a recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.methods import method_named
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces.idle import IdleParameter
from evomerge.models.architecture import Architecture
from evomerge.nouns.space import Space
from evomerge.recipe.plain import Recipe

Point = Mapping[str, Any]


class MergeSpace(ABC):
    """Turns a genome into a space, and points of it into recipes.

    Args:
        definition: The ``genome:`` block.
        architecture: What the models have in common.
        out_dtype: Dtype of merged models where the genome does not say.

    Attributes:
        idle: Parameters that are left out because they would change nothing.

    Raises:
        GenomeError: nothing varies, or a setting contradicts the method.
    """

    summary: ClassVar[str]
    idle: Sequence[IdleParameter] = ()

    def __init__(
        self, definition: MergeDefinition, architecture: Architecture, out_dtype: str
    ) -> None:
        self.definition = definition
        self.architecture = architecture
        self.method = method_named(definition.merge_method)
        self.out_dtype = definition.out_dtype or out_dtype
        self.space = self._build()

    @classmethod
    @abstractmethod
    def serves(cls, definition: MergeDefinition) -> bool:
        """Whether this is the space of such a genome; exactly one of the table does."""

    @abstractmethod
    def _build(self) -> Space:
        """The space; sets whatever ``recipe`` needs."""

    @abstractmethod
    def recipe(self, point: Point) -> Recipe:
        """What a point of the space means; a pure function."""

    def beyond_models(self) -> MergeSpace:
        """The same in a box whose inside holds sums of the models that lie beyond them.

        Itself where the genome gives the box, or no sum of models is a point.
        """
        return self

    def files(self, point: Point) -> Mapping[str, str]:
        """Small files that the recipe of a point needs: name below the run folder -> text."""
        return {}

    @abstractmethod
    def source_point(self, index: int) -> dict[str, Any] | None:
        """The point that gives back model ``index``, None where no point does."""

    @abstractmethod
    def average_point(self) -> dict[str, Any] | None:
        """The point of the uniform average of the models, None where there is none."""

    @abstractmethod
    def base_point(self) -> dict[str, Any] | None:
        """The point that gives back the base, None where no point does."""

    def uniform_point(self, method: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The point of a recipe with the same values everywhere, None where there is none.

        Args:
            method: Its merge method.
            values: Every parameter that the method reads, for all models alike.
        """
        return None

    def model_recipe(self, model: ModelName) -> Recipe:
        """A model as it is, in the dtype of the merges."""
        return Recipe(
            {
                "merge_method": "passthrough",
                "models": [{"model": model.in_recipe}],
                "dtype": self.definition.dtype,
                "out_dtype": self.out_dtype,
            }
        )

    def average_recipe(self) -> Recipe:
        """The uniform average of the models, without the base."""
        models = [source.model for source in self.definition.models]
        return Recipe(
            {
                "merge_method": "linear",
                "models": [
                    {"model": model.in_recipe, "parameters": {"weight": 1.0}} for model in models
                ],
                "parameters": {"normalize": True},
                **self.frame(models[0]),
            }
        )

    def frame(self, base: ModelName | None) -> dict[str, Any]:
        """The keys of a recipe that no point changes: base, dtypes, tokenizer, template.

        Without a base and a tokenizer mergekit would take configuration and tokenizer from
        whichever model comes first in a set, so one of them is always named.
        """
        definition = self.definition
        frame: dict[str, Any] = {} if base is None else {"base_model": base.in_recipe}
        frame.update(dtype=definition.dtype, out_dtype=self.out_dtype)
        if definition.tokenizer is not None:
            block = definition.tokenizer.model_dump(exclude_defaults=True)
            donor = self._donor(definition.tokenizer.source, base)
            frame["tokenizer"] = {**block, "source": donor}
        elif definition.tokenizer_source is not None:
            frame["tokenizer_source"] = self._donor(definition.tokenizer_source, base)
        elif base is None:
            frame["tokenizer_source"] = definition.models[0].model.in_recipe
        if definition.chat_template is not None:
            frame["chat_template"] = definition.chat_template
        return frame

    def _donor(self, source: str, base: ModelName | None) -> str | dict[str, Any]:
        """Whose vocabulary: "base" is the genome's base even where the recipe has another."""
        wanted = self.definition.base_model
        return wanted.in_recipe if source == "base" and wanted and wanted != base else source

"""A sum of LoRA adapters: what it is of, the name it goes by, and the small file that says so.

A recipe names it as any adapter, ``base+adapters/factors-DIGEST``, by a folder below the run
folder. During a run only ``adapters/factors-DIGEST.json`` lies there: the merger sums in memory,
and the adapter itself is written where somebody else is to read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from evomerge.foundations.canonical import canonical_json, digest
from evomerge.foundations.reading import is_folder
from evomerge.genome.model_names import ModelName
from evomerge.recipe.own_names import SUM, names_sum
from evomerge.recipe.plain import Recipe


@dataclass(frozen=True)
class AdapterSum:
    """LoRA adapters of one base whose A are summed, and whose B are, each with a coefficient.

    Attributes:
        models: Every ``base+adapter``.
        coefficients: One per model.
    """

    models: tuple[ModelName, ...]
    coefficients: tuple[float, ...]

    @property
    def text(self) -> str:
        """Content of its file; equal for equal sums."""
        models = [model.in_recipe for model in self.models]
        return canonical_json({"models": models, "coefficients": self.coefficients})

    @property
    def name(self) -> str:
        """Its folder, below the run folder; from what it is a sum of."""
        return f"{SUM}{digest(json.loads(self.text))[:16]}"

    @property
    def model(self) -> ModelName:
        """The base with the sum."""
        base = self.models[0]
        return ModelName(path=base.path, revision=base.revision, lora=self.name)

    @property
    def only(self) -> ModelName | None:
        """The model that it is, where all others have coefficient 0 and its own is 1."""
        if sorted(self.coefficients) != [*[0.0] * (len(self.models) - 1), 1.0]:
            return None
        return self.models[self.coefficients.index(1.0)]

    @classmethod
    def parse(cls, text: str) -> AdapterSum:
        """The sum that a file holds.

        Raises:
            ValueError: the text is no such file.
        """
        try:
            data = json.loads(text)
            models = tuple(ModelName.model_validate(model) for model in data["models"])
            found = cls(models, tuple(float(value) for value in data["coefficients"]))
        except (KeyError, RecursionError, TypeError) as error:
            raise ValueError("it is no sum of adapters") from error
        if not models or len(models) != len(found.coefficients):
            raise ValueError("it has not one coefficient per model")
        return found


def file_of(name: str) -> str:
    """The file that says what a sum is of, beside where the adapter would be."""
    return f"{name}.json"


def sums_in(recipe: Recipe) -> tuple[ModelName, ...]:
    """The bases with their sums of adapters that a recipe names, once each.

    Where the adapter itself was written, it is one like any other.
    """
    return tuple(filter(_is_unwritten, recipe.models))


def sum_in(recipe: Recipe) -> ModelName | None:
    """The first of them; None where a recipe names none."""
    return next(iter(sums_in(recipe)), None)


def with_sums(recipe: Recipe, models: Mapping[ModelName, ModelName]) -> Recipe:
    """A recipe with other models in the place of its sums of adapters.

    Args:
        recipe: One that names sums.
        models: By the sums in whose place they are; others stay.
    """
    return recipe.with_models(lambda own: models.get(own, own))


def bases_of(recipe: Recipe) -> Recipe:
    """A recipe with the bases alone in the place of its sums."""
    bases = {one: one.model_copy(update={"lora": None}) for one in sums_in(recipe)}
    return with_sums(recipe, bases)


def _is_unwritten(model: ModelName) -> bool:
    return names_sum(model) and not is_folder(model.lora or "")

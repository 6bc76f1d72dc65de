"""A sum of LoRA adapters: what it is of, the name it goes by, and the small file that says so.

A recipe names it as any adapter, ``base+adapters/factors-DIGEST``, by a folder below the run
folder. During a run only ``adapters/factors-DIGEST.json`` lies there: the merger sums in memory,
and the adapter itself is written where somebody else is to read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from evomerge.foundations.canonical import canonical_json, digest
from evomerge.genome.model_names import ModelName
from evomerge.recipe.plain import Recipe

_PLACE = "adapters/factors-"
_NAME = re.compile(re.escape(_PLACE) + r"[0-9a-f]{16}")


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
        return f"{_PLACE}{digest(json.loads(self.text))[:16]}"

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
    """The file that says what a sum is of, below the run folder."""
    return f"{name}.json"


def sum_in(recipe: Recipe) -> ModelName | None:
    """The base with its sum of adapters, where a recipe names one."""
    return next(iter(_sums(recipe.config)), None)


def _sums(part: Any) -> Iterator[ModelName]:
    if isinstance(part, list):
        for item in part:
            yield from _sums(item)
    elif isinstance(part, Mapping):
        yield from _named(part.get("model"))
        for key in ("models", "slices", "sources"):
            yield from _sums(part.get(key))


def _named(model: Any) -> Iterator[ModelName]:
    """The model, where its adapter is a sum; whatever else stands there is left to mergekit."""
    with suppress(ValueError):
        name = ModelName.model_validate(model)
        if _NAME.fullmatch(name.lora or ""):
            yield name


def with_model(recipe: Recipe, model: ModelName) -> Recipe:
    """A recipe with another model in the place of its sum of adapters."""

    def replaced(part: Any) -> Any:
        if isinstance(part, list):
            return [replaced(item) for item in part]
        if not isinstance(part, Mapping):
            return part
        own = {"model": model.in_recipe} if next(_named(part.get("model")), None) else {}
        return {**{key: replaced(value) for key, value in part.items()}, **own}

    return Recipe(replaced(recipe.config))

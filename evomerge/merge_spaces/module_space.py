"""Parts of models: the merges of those that the genome names, all others taken as they are.

mergekit's `modules:` has the parts of a model, e.g. one that writes and one that sees, each with
models and values of its own. Layers are grouped in the language model alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.errors import GenomeError, nearest
from evomerge.genome.inputs import inputs_of
from evomerge.genome.merge_method import Base, Method, Scope
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.by_tensor import per_tensor
from evomerge.merge_spaces.learnable_parts import LearnableParts
from evomerge.merge_spaces.searched_part import RecipeWriter, SearchedPart
from evomerge.nouns.space import Point, Space
from evomerge.recipe.plain import Recipe

_AT_THE_BASE = {"slerp": {"t": 0.0}, "nearswap": {"t": 0.0}}  # where two models give the first
_OF_A_PART = ("models", "slices", "parameters")


class ModuleSpace(MergeSpace):
    """The merges of several parts, side by side."""

    name: ClassVar[str] = "modules"
    reads_modules: ClassVar[bool] = True
    is_beyond: bool = False

    def _build(self) -> Space:
        self._refuse_strangers()
        modules = self.definition.modules
        merged = [name for name in self.architecture.parts if name in modules]
        merged = [name for name in merged if not self._is_one_model(name)]
        if not merged:
            raise GenomeError(
                "nothing varies: every part is that of one model",
                where="genome.modules",
                fix="Give one of them several models.",
            )
        is_alone = len(merged) == 1
        self._merged = {
            name: SearchedPart.of(self, name, "" if is_alone else name, self._base)
            for name in merged
        }
        self._frame = self._one_frame()
        self._kept = {
            name: self._as_it_is(name) for name in self.architecture.parts if name not in merged
        }
        self.idle = tuple(one for part in self._merged.values() for one in part.idle)
        return self._space()

    def _space(self) -> Space:
        return Space(tuple(chain.from_iterable(p.parameters for p in self._merged.values())))

    def beyond_models(self) -> ModuleSpace:
        """See the base class."""
        other = copy(self)
        other._merged = {
            name: replace(part, space=part.space.beyond_models())
            for name, part in self._merged.items()
        }
        other.space, other.is_beyond = other._space(), True
        return other

    @property
    def donor(self) -> ModelName:
        """The model that gives configuration and tokens, and the parts that are not merged."""
        return self._base or self.definition.models[0].model

    @property
    def _base(self) -> ModelName | None:
        """The ``base_model`` of the recipes."""
        models = [source.model for source in self.definition.models]
        return inputs_of(models, self.definition.base_model, self.method).base

    def recipe(self, point: Point) -> Recipe:
        """What a point means: ``modules:`` with every part of the models."""
        return self._written({name: part.space for name, part in self._merged.items()}, point)

    def _written(self, parts: Mapping[str, RecipeWriter], point: Point) -> Recipe:
        """The recipe of a point, each part that is merged as somebody writes it."""
        modules = {
            name: self._kept[name]
            if name in self._kept
            else self._merged[name].module(point, parts[name])
            for name in self.architecture.parts
        }
        return Recipe({**self._frame, "modules": modules})

    def by_tensor(self) -> ModuleSpace:
        """See the base class; of the language model's tensors."""
        finer = type(self)(per_tensor(self.definition), self.architecture, self.out_dtype)
        return finer.beyond_models() if self.is_beyond else finer

    def learnable(self) -> LearnableParts | None:
        """See the base class."""
        parts = {name: part.space.learnable() for name, part in self._merged.items()}
        known = {name: part for name, part in parts.items() if part is not None}
        if len(known) < len(parts):
            return None
        models = [source.model for source in self.definition.models]
        inputs = inputs_of(models, self.definition.base_model, self.method)
        named = {name: part.named for name, part in self._merged.items()}
        return LearnableParts(self.space, inputs, known, named, self._written)

    def _refuse_strangers(self) -> None:
        parts, architecture = self.architecture.parts, self.architecture.name
        if not parts:
            raise GenomeError(
                f"{architecture} has one part, expected models with several",
                where="genome.modules",
                fix="Move what stands there to genome itself.",
            )
        for name in self.definition.modules:
            if name not in parts:
                raise GenomeError(
                    f"{architecture} has no part {name!r}{nearest(name, list(parts))}, it has"
                    f" {', '.join(parts)}",
                    where=f"genome.modules.{name}",
                    fix="Name one of these.",
                )

    def _is_one_model(self, name: str) -> bool:
        """Whether the genome names one model for a part, so that nothing of it is merged."""
        return {source.model for source in self.definition.modules[name].models} == {self.donor}

    def _one_frame(self) -> dict[str, Any]:
        """What stands around the parts, the same for each."""
        for name, part in self._merged.items():
            base = part.frame.get("base_model")
            if not part.names_bases and base not in (None, self.donor.in_recipe):
                raise GenomeError(
                    f"{self.donor} is not among its models: it gives the merge its configuration,"
                    " and mergekit adds it to every part",
                    where=f"genome.modules.{name}.models",
                    fix="Add it there.",
                )
        first, *_ = self._merged.values()
        return {**first.frame, **self.frame(self._base)}

    def _as_it_is(self, name: str) -> dict[str, Any]:
        """A part that is the donor's, to the bit.

        Raises:
            GenomeError: the method gives no model back.
        """
        method, donor = self.method, self.donor
        entries: list[dict[str, Any]] = [{"model": donor.in_recipe}]
        if method.name in _AT_THE_BASE:
            others = [s.model for s in self.definition.models if s.model != donor]
            entries += [{"model": other.in_recipe} for other in others[:1]]
            return {"models": entries, "parameters": dict(_AT_THE_BASE[method.name])}
        if not _gives_one_back(method):
            raise GenomeError(
                f"{method.name} gives no model back that it merges alone, so that {name} cannot be"
                " taken as it is",
                where="genome.modules",
                fix=f"Name {name} there to merge it, too, or take another method.",
            )
        weights = [
            p.name for p in method.parameters if p.scope is Scope.INPUT and p.name == "weight"
        ]
        if weights:
            entries[0]["parameters"] = dict.fromkeys(weights, 1.0)
        return {"models": entries}

    # What others ask of it

    def point_of(self, recipe: Recipe) -> dict[str, Any] | None:
        """See the base class; a recipe of whole models has all of their parts."""
        around, modules = _parts_of(recipe.config, self.architecture.parts)
        if modules.keys() != self.architecture.parts.keys():
            return None
        if any(modules[name] != kept for name, kept in self._kept.items()):
            return None
        return self._together(lambda p, name: p.point_of(Recipe({**around, **modules[name]})))

    def places(self) -> NDArray[np.intp] | None:
        """See the base class; each part has places of its own."""
        found: list[NDArray[np.intp]] = []
        for part in self._merged.values():
            own = part.space.places()
            first = 1 + max((int(one.max()) for one in found if len(one)), default=-1)
            n_dims = part.space.space.n_dims
            found.append(first + (np.zeros(n_dims, dtype=np.intp) if own is None else own))
        together = np.concatenate(found)
        return together if len(set(together.tolist())) > 1 else None

    def has_shares(self) -> bool:
        """See the base class."""
        return any(part.space.has_shares() for part in self._merged.values())

    def uniform_point(self, method: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """See the base class."""
        if self._kept:
            return None
        return self._together(lambda part, _: part.own(part.space.uniform_point(method, values)))

    def source_point(self, index: int) -> dict[str, Any] | None:
        """The model in every part; one whose other parts are not taken is no point."""
        model = self.definition.models[index].model
        return None if self._kept and model != self.donor else self._together(_gives(model))

    def average_point(self) -> dict[str, Any] | None:
        """The average in every part, where all are merged, each of all models."""
        models = {source.model for source in self.definition.models}
        if self._kept or any(models != set(_models(part)) for part in self._merged.values()):
            return None
        return self._together(lambda part, _: part.own(part.space.average_point()))

    def base_point(self) -> dict[str, Any] | None:
        """The base in every part."""
        if self.definition.base_model != self.donor:
            return None
        return self._together(lambda part, _: part.own(part.space.base_point()))

    def _together(
        self, point: Callable[[SearchedPart, str], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """The points of all parts as one; None where a part has none."""
        found: dict[str, Any] = {}
        for name, part in self._merged.items():
            own = point(part, name)
            if own is None:
                return None
            found |= own
        return found


def _gives_one_back(method: Method) -> bool:
    """Whether a model that it merges alone, the base where it has one, comes out as it is.

    What a package registers may make anything of it.
    """
    is_any_number = method.min_sources == 1 and method.max_sources is None
    gives_base = method.base is Base.REQUIRED and is_any_number
    return not method.packages and (method.base is Base.IGNORED or gives_base)


def _models(part: SearchedPart) -> list[ModelName]:
    return [source.model for source in part.space.definition.models]


def _gives(model: ModelName) -> Callable[[SearchedPart, str], dict[str, Any] | None]:
    """The point of a part that gives back a model."""

    def found(part: SearchedPart, _: str) -> dict[str, Any] | None:
        models, space = _models(part), part.space
        if model in models:
            return part.own(space.source_point(models.index(model)))
        return part.own(space.base_point()) if model == space.definition.base_model else None

    return found


def _parts_of(
    config: Mapping[str, Any], parts: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What stands around the parts of a recipe, and each part with all of its parameters."""
    around = {key: v for key, v in config.items() if key not in (*_OF_A_PART, "modules")}
    shared = config.get("parameters") or {}
    own = config.get("modules")
    if own is None:
        whole = {key: config[key] for key in _OF_A_PART if key in config}
        return around, dict.fromkeys(parts, whole)
    found: dict[str, dict[str, Any]] = {}
    for name, module in own.items():
        parameters = {**shared, **(module.get("parameters") or {})}
        found[name] = {**module, **({"parameters": parameters} if parameters else {})}
    return around, found

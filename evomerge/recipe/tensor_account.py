"""Where every tensor of every source goes in a merge: merged, carried over, or left out and why.

mergekit drops in silence what its definition of an architecture does not name, and what no slice
of a recipe reads. Here each name of each file is in exactly one of three lists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evomerge.foundations.counted import counted
from evomerge.genome.model_names import ModelName
from evomerge.models.conversion import conversions
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.models.family import COMPUTED, ModelPart, Weight
from evomerge.recipe.plain import Recipe

_FLOATS = ("F", "BF")  # how dtypes of numbers that can be merged begin in a header
_N_SHOWN = 3
_COPIED = "numbers that no method merges; they are the same in every model and copied"
_COMPUTED = "transformers computes them itself"
_NO_PLACE = "mergekit knows no such tensor"
_UNREAD_LAYER = "the recipe reads no such layer of this model"
_UNREAD_END = "the recipe reads what is before and after the layers from other models"
_UNREAD = "the recipe reads only its configuration and tokens"


@dataclass(frozen=True)
class TensorAccount:
    """The tensors of one model, each in one of three places.

    Attributes:
        model: As the recipe's user names it.
        key: Where it stands in the genome.
        merged: Names of those that the merge reads and computes with.
        carried_over: Names of those that it takes as they are -> why.
        left_out: Names of those that reach no merged model -> why.
    """

    model: str
    key: str
    merged: frozenset[str]
    carried_over: Mapping[str, str]
    left_out: Mapping[str, str]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is not merged, reason by reason."""
        groups = (("carried over", self.carried_over), ("left out", self.left_out))
        return tuple(
            f"{counted(len(names), 'tensor')} of {self.model} {verb} {what}: {why} ({_some(names)})"
            for what, tensors in groups
            for why, names in _by_reason(tensors).items()
            for verb in ("is" if len(names) == 1 else "are",)
        )


def accounts_of(recipe: Recipe, models: Iterable[ModelFacts]) -> Iterator[TensorAccount]:
    """The account of each model; of those whose files and architecture are known.

    Args:
        recipe: Of a kind whose model holds all that its merges make.
        models: Its sources.
    """
    for model in models if recipe.keeps_merges_whole else ():
        family = family_of(model)
        if family is None or not family.layer or not model.tensors or model.missing:
            continue
        name = ModelName.model_validate(model.reference)
        whole = ModelPart(family.before, family.layer, family.after, family.n_layers(model))
        parts = family.parts or {"": whole}
        read = [
            _ReadPart(part, [_Reads.of(one, name, key, part) for one in recipe.documents], key)
            for key, part in parts.items()
        ]
        yield _account(model, read)


@dataclass(frozen=True)
class _Reads:
    """What one merge reads of a part of a model: some layers, what is before and after them.

    Attributes:
        layers: These layers.
        before: Whether it reads what is before them.
        after: Whether it reads what is after them.
        is_alone: Whether the part is taken from this model alone.
    """

    layers: frozenset[int]
    before: bool
    after: bool
    is_alone: bool = False

    @classmethod
    def of(
        cls, document: Mapping[str, Any], model: ModelName, part: str, known: ModelPart
    ) -> _Reads:
        modules = document.get("modules")
        if modules and part:
            modules = {part: modules[part]} if part in modules else {"": {}}
        modules = list((modules or {"": document}).values())
        slices = [slice_ for module in modules for slice_ in module.get("slices") or ()]
        whole = [entry for module in modules for entry in module.get("models") or ()]
        has_modules = bool(document.get("modules"))
        if not slices:
            named = [_name(entry["model"]) for entry in whole]
            base = _name(document.get("base_model"))
            if whole and base is not None and base not in named:
                named.append(base)  # mergekit adds it to the models
            is_read = model in named
            layers = frozenset(range(known.n_layers) if is_read else ())
            return cls(layers, is_read, is_read, has_modules and named == [model])
        found: set[int] = set()
        sources = [source for slice_ in slices for source in slice_["sources"]]
        for source in sources:
            if _name(source["model"]) == model:
                found.update(range(*map(int, source["layer_range"])))
        first, last = (
            [_name(s["model"]) for s in part["sources"]] for part in (slices[0], slices[-1])
        )
        is_alone = has_modules and {_name(source["model"]) for source in sources} == {model}
        return cls(frozenset(found), model in first, model in last[: len(first)], is_alone)


@dataclass(frozen=True)
class _ReadPart:
    """A part of a model, and what each merge reads of it."""

    part: ModelPart
    reads: Sequence[_Reads]
    name: str

    @property
    def layers(self) -> frozenset[int]:
        return frozenset().union(*(one.layers for one in self.reads))

    @property
    def before(self) -> bool:
        return any(one.before for one in self.reads)

    @property
    def after(self) -> bool:
        return any(one.after for one in self.reads)

    @property
    def is_read(self) -> bool:
        return bool(self.layers) or self.before or self.after


def _account(model: ModelFacts, parts: Sequence[_ReadPart]) -> TensorAccount:
    is_read = any(part.is_read for part in parts)
    taken = _Taken(model)
    merged: set[str] = set()
    carried: dict[str, str] = {}
    left_out: dict[str, str] = {}

    def place(weights: Iterable[Weight], why_not: str, alone: str) -> None:
        for weight in weights:
            found = taken.by(weight)
            if why_not:
                left_out.update(dict.fromkeys(found, why_not if is_read else _UNREAD))
                continue
            merged.update(found)
            carried.update(dict.fromkeys(found, alone) if alone else ())
            for name in {*weight.names} & model.tensors.keys() - {*found}:
                left_out.setdefault(name, f"mergekit takes {found[0]} in its place")

    for one in parts:
        part, is_alone = one.part, any(reads.is_alone for reads in one.reads)
        alone = f"the recipe takes {one.name} from this model alone" if is_alone else ""
        other = f"the recipe takes {one.name} from other models"
        elsewhere = other if one.name and not one.is_read else ""
        place(part.before, "" if one.before else elsewhere or _UNREAD_END, alone)
        for index in range(part.n_layers):
            of_layer = (weight.of_layer(index) for weight in part.layer)
            place(of_layer, "" if index in one.layers else elsewhere or _UNREAD_LAYER, alone)
        place(part.after, "" if one.after else elsewhere or _UNREAD_END, alone)
    rest = model.tensors.keys() - merged - left_out.keys()
    left_out.update({n: _COMPUTED if n.endswith(COMPUTED) else _NO_PLACE for n in rest})
    copied = {n for n in merged if not model.tensors[n].dtype.startswith(_FLOATS)}
    carried.update(dict.fromkeys(copied, _COPIED))
    return TensorAccount(
        model.name,
        model.key,
        frozenset(merged - carried.keys()),
        dict(sorted(carried.items())),
        {name: why for name, why in sorted(left_out.items()) if name not in merged},
    )


class _Taken:
    """The tensors of a model that mergekit makes one of its own of: often the one of that name."""

    def __init__(self, model: ModelFacts) -> None:
        self._model = model

    @cached_property
    def _converted(self) -> Mapping[str, Sequence[str]]:
        return conversions(self._model)

    def by(self, weight: Weight) -> Sequence[str]:
        """Their names; none where it does without."""
        found = [name for name in weight.names if name in self._model.tensors]
        return found[:1] if found or weight.is_optional else self._converted.get(weight.name, ())


def _by_reason(tensors: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, why in tensors.items():
        found[why].append(name)
    return found


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _N_SHOWN else ""
    return ", ".join(names[:_N_SHOWN]) + more


def _name(model: Any) -> ModelName | None:
    return None if model is None else ModelName.model_validate(model)

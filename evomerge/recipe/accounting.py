"""Accounts for every tensor of every source: where each goes in a recipe, or in any of a space.

mergekit drops in silence what its definition of an architecture does not name, and what no slice
of a recipe reads. Here each name of each file is in exactly one of three lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from evomerge.foundations.canonical import canonical_json
from evomerge.genome.model_names import ModelName
from evomerge.models.conversion import conversions
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.models.family import COMPUTED, ModelPart, Weight
from evomerge.recipe.adapter_account import with_adapter
from evomerge.recipe.adapter_sum import bases_of
from evomerge.recipe.plain import Recipe
from evomerge.recipe.tensor_account import TensorAccount
from evomerge.recipe.tensor_reads import (
    AFTER,
    BEFORE,
    UNREAD_END,
    UNREAD_LAYER,
    Place,
    Reads,
    reads_of,
)
from evomerge.recipe.walk import with_settings

_FLOATS = ("F", "BF")  # how dtypes of numbers that can be merged begin in a header
_COPIED = "numbers that no method merges; they are the same in every model and copied"
_COMPUTED = "transformers computes them itself"
_NO_PLACE = "mergekit knows no such tensor"
_UNREAD = "the recipe reads only its configuration and tokens"
_UNNAMED = "the recipe does not name this model"


def accounts_of(recipe: Recipe, models: Iterable[ModelFacts]) -> Iterator[TensorAccount]:
    """The account of each model and of its adapter, where files and architecture are known.

    Args:
        recipe: What is made of them.
        models: Its sources.
    """
    for model, parts in _known(models):
        name = ModelName.model_validate(model.reference)
        read = [one.reading(reads_of(recipe, name, one.name)) for one in parts]
        unread = _UNREAD if name in recipe.named else _UNNAMED
        yield from with_adapter(_account(model, read, unread), model)


def reading_key(recipe: Recipe) -> str:
    """Equal for recipes that read the same tensors, whatever they make of them."""
    plain = bases_of(recipe)
    documents = [*plain.documents, *(use.document for use in plain.uses)]
    return canonical_json([with_settings(one, lambda _: None) for one in documents])


def possible_accounts(models: Iterable[ModelFacts]) -> Iterator[TensorAccount]:
    """The same where each trial reads other layers, or other models: what is left out by all."""
    for model, parts in _known(models):
        every = [one.reading([Reads()]) for one in parts]
        for account in with_adapter(_account(model, every), model):
            yield replace(account, is_by_trial=True)


def unaccounted(model: ModelFacts) -> str:
    """Why there is no account of a model; empty where there is one."""
    family = family_of(model)
    if family is None or not family.layer:
        return f"mergekit has no definition of {model.architecture or 'its architecture'}"
    if model.missing:
        return f"{', '.join(model.missing)} is missing"
    return "" if model.tensors else "it has no safetensors files"


def _known(models: Iterable[ModelFacts]) -> Iterator[tuple[ModelFacts, Sequence[_ReadPart]]]:
    """Models with the parts of their family."""
    for model in models:
        family = family_of(model)
        if family is None or unaccounted(model):
            continue
        whole = ModelPart(family.before, family.layer, family.after, family.n_layers(model))
        parts = family.parts or {"": whole}
        yield model, [_ReadPart(part, name) for name, part in parts.items()]


@dataclass(frozen=True)
class _ReadPart:
    """A part of a model, and what merges read of it."""

    part: ModelPart
    name: str
    reads: Sequence[Reads] = ()

    def reading(self, reads: Sequence[Reads]) -> _ReadPart:
        """The same, read so."""
        return replace(self, reads=reads)

    @property
    def is_read(self) -> bool:
        """Whether any merge reads any of it."""
        return any(one.is_any for one in self.reads)

    @property
    def alone(self) -> str:
        """Why it is carried over as it is; empty where it is merged."""
        is_alone = all(reads.is_alone for reads in self.reads if reads.is_any)
        return f"the recipe takes {self.name} from this model alone" if is_alone else ""

    def why_not(self, place: Place, architecture: str, name: str) -> str:
        """Why a tensor reaches no merged model; empty where it does."""
        whys = [one.why_not(place, architecture, name) for one in self.reads if one.is_any]
        if not all(whys):
            return ""
        if not whys and self.name:
            return f"the recipe takes {self.name} from other models"
        dropped = [why for why in whys if why not in (UNREAD_LAYER, UNREAD_END)]
        return (dropped or whys or [UNREAD_END])[0]

    def weights(self) -> Iterator[tuple[Place, Weight]]:
        """Every tensor that it may have, and where."""
        yield from ((BEFORE, weight) for weight in self.part.before)
        for index in range(self.part.n_layers):
            yield from ((index, weight.of_layer(index)) for weight in self.part.layer)
        yield from ((AFTER, weight) for weight in self.part.after)


def _account(model: ModelFacts, parts: Sequence[_ReadPart], unread: str = _UNREAD) -> TensorAccount:
    is_read = any(part.is_read for part in parts)
    taken = _Taken(model)
    merged: set[str] = set()
    carried: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for part in parts:
        for place, weight in part.weights():
            found = taken.by(weight)
            why = part.why_not(place, model.architecture, weight.name)
            if why:
                left_out.update(dict.fromkeys(found, why if is_read else unread))
                continue
            merged.update(found)
            carried.update(dict.fromkeys(found, part.alone) if part.alone else ())
            for name in {*weight.names} & model.tensors.keys() - {*found}:
                left_out.setdefault(name, f"mergekit takes {found[0]} in its place")
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

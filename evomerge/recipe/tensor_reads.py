"""What the merges of a recipe read of a model, as far as it reaches the model that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evomerge.genome.model_names import ModelName
from evomerge.recipe.base import Document, none_dropped
from evomerge.recipe.own_names import names_sum
from evomerge.recipe.plain import Recipe

Place = int | Literal["before", "after"]  # a layer, or what stands before or after all of them
BEFORE: Literal["before"] = "before"
AFTER: Literal["after"] = "after"
UNREAD_LAYER = "the recipe reads no such layer of this model"
UNREAD_END = "the recipe reads what is before and after the layers from other models"


@dataclass(frozen=True)
class Reads:
    """What one merge reads of a part of a model, or what is asked of a part that it makes.

    Attributes:
        layers: These layers; None: all.
        before: Whether what is before them too.
        after: Whether what is after them too.
        is_alone: Whether the part is taken from this model alone and as it is, by the merge and by
            all that take it from that one.
        dropped: From an architecture and a tensor's name to why it is lost on the way all the same.
    """

    layers: frozenset[int] | None = None
    before: bool = True
    after: bool = True
    is_alone: bool = False
    dropped: Callable[[str, str], str] = none_dropped

    @property
    def is_any(self) -> bool:
        """Whether anything is read."""
        return self.layers is None or bool(self.layers) or self.before or self.after

    def has_layer(self, index: int) -> bool:
        """Whether a layer is read."""
        return self.layers is None or index in self.layers

    def why_not(self, place: Place, architecture: str, name: str) -> str:
        """Why a tensor is not read or gets lost; empty where it reaches the merged model."""
        if isinstance(place, int):
            missed = "" if self.has_layer(place) else UNREAD_LAYER
        else:
            missed = "" if (self.before if place == BEFORE else self.after) else UNREAD_END
        return missed or self.dropped(architecture, name)


def reads_of(recipe: Recipe, model: ModelName, part: str) -> list[Reads]:
    """What each merge reads of a model, those that are made for other merges among them.

    Args:
        recipe: Of any kind.
        model: One of its sources, as it names it.
        part: Which part of the model; empty where it has one.
    """
    made = dict(zip(recipe.made, recipe.documents, strict=False))  # the last may have no name

    def within(document: Document, asked: Reads) -> Iterator[Reads]:
        yield _reads(document, model, part, asked)
        for name, merge in made.items():
            of_merge = _reads(document, ModelName(path=name), part, asked)
            if of_merge.is_any:
                yield from within(merge, of_merge)

    return [
        found
        for use in recipe.uses
        for found in within(use.document, Reads(is_alone=True, dropped=use.dropped))
    ]


def _reads(document: Mapping[str, Any], model: ModelName, part: str, asked: Reads) -> Reads:
    """What a merge reads of a model for what is asked of its own."""
    modules = document.get("modules")
    if modules and part:
        modules = {part: modules[part]} if part in modules else {"": {}}
    modules = list((modules or {"": document}).values())
    slices = [slice_ for module in modules for slice_ in module.get("slices") or ()]
    whole = [entry for module in modules for entry in module.get("models") or ()]
    is_scaled = any(map(_scales, (document, *modules, *slices, *whole)))
    is_kept = asked.is_alone and bool(document.get("modules")) and not is_scaled
    if not slices:
        named = [_name(entry["model"]) for entry in whole]
        base = _name(document.get("base_model"))
        if whole and base is not None and base not in named:
            named.append(base)  # mergekit adds it to the models
        if not any(_is(model, one) for one in named):
            return Reads(frozenset(), False, False)
        is_alone = is_kept and len(named) == 1
        return Reads(asked.layers, asked.before, asked.after, is_alone, asked.dropped)
    found: set[int] = set()
    n_before = 0  # layers of the slices before, in the model that it makes
    for slice_ in slices:
        spans = [(s["model"], *map(int, s["layer_range"])) for s in slice_["sources"]]
        starts = [start for one, start, _ in spans if _is(model, _name(one))]
        length = spans[0][2] - spans[0][1]
        wanted = [offset for offset in range(length) if asked.has_layer(n_before + offset)]
        found.update(start + offset for start in starts for offset in wanted)
        n_before += length
    sources = [source for slice_ in slices for source in slice_["sources"]]
    first, last = ([_name(s["model"]) for s in slices[index]["sources"]] for index in (0, -1))
    return Reads(
        frozenset(found),
        asked.before and any(_is(model, one) for one in first),
        asked.after and any(_is(model, one) for one in last[: len(first)]),
        is_kept and all(_is(model, _name(one["model"])) and not _scales(one) for one in sources),
        asked.dropped,
    )


def _scales(part: Mapping[str, Any]) -> bool:
    """Whether settings of a recipe's part may multiply what one model gives."""
    own = part.get("parameters") or {}
    return "scale" in own or own.get("weight", 1) != 1


def _is(model: ModelName, named: ModelName | None) -> bool:
    """Whether a recipe names a model there, or a sum of adapters with its own among them."""
    if named is None or named == model:
        return named is not None
    is_sum = names_sum(named) and model.lora is not None
    return is_sum and (named.path, named.revision) == (model.path, model.revision)


def _name(model: Any) -> ModelName | None:
    return None if model is None else ModelName.model_validate(model)

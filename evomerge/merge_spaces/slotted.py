"""Merge spaces whose recipes are filled slot by slot, and what that makes possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from typing_extensions import Self

from evomerge.genome.inputs import Inputs
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.layout import Slice
from evomerge.merge_spaces.slots import ValueSlot, by_place, read, with_filters, with_rest
from evomerge.merge_spaces.table import EffectiveSettings
from evomerge.nouns.space import Point, Value
from evomerge.recipe.plain import Recipe


class SlotSpace(MergeSpace):
    """Recipes whose values stand in slots: per parameter, model, slice of layers and filter.

    Attributes:
        given: What the genome says of the method's parameters.
        slices: Of the layers.
        inputs: The models of a recipe.
        slots: Its values.
        fixed: Values that hold for the whole recipe.
        starts: Parameter -> where a search starts; empty where a weight of 0 does not silence.
    """

    given: EffectiveSettings
    slices: tuple[Slice, ...]
    inputs: Inputs
    slots: Sequence[ValueSlot]
    fixed: Mapping[str, Any]
    starts: Mapping[str, Value]
    _slots_at: Mapping[tuple[ModelName | None, int], Sequence[ValueSlot]]

    def with_slots(self, slots: Sequence[ValueSlot]) -> Self:
        """The same, its recipes written from other slots."""
        other = copy(self)
        other.slots, other._slots_at = slots, by_place(slots)
        return other

    @property
    def gives_normalize(self) -> bool:
        """Whether the genome says itself if weights are divided by their sum."""
        return self.given.gives_normalize

    def is_given(self, slot: ValueSlot) -> bool:
        """Whether the range of a slot is the genome's own."""
        parameter = self.method.parameter(slot.parameter)
        return slot.model is not None and self.given.of_source(parameter, slot.model) is not None

    def recipe(self, point: Point) -> Recipe:
        """What a point means: ``models:`` for one slice, ``slices:`` for several."""
        config: dict[str, Any] = {"merge_method": self.method.name}
        shared = dict(self.fixed)
        if len(self.slices) > 1:
            config["slices"] = [self._slice(i, point) for i in range(len(self.slices))]
        else:
            config["models"] = [self._input(model, 0, point) for model in self.inputs.models]
            shared.update(self._values(None, 0, point))
        if shared:
            config["parameters"] = shared
        return Recipe({**config, **self.frame(self.inputs.base)})

    def _slice(self, index: int, point: Point) -> dict[str, Any]:
        layers = [self.slices[index].start, self.slices[index].end]
        sources = []
        for model in self.inputs.models:
            source = self._input(model, index, point)
            sources.append({"model": source.pop("model"), "layer_range": layers, **source})
        shared = self._values(None, index, point)
        return {"sources": sources, **({"parameters": shared} if shared else {})}

    def _input(self, model: ModelName, index: int, point: Point) -> dict[str, Any]:
        values = self._values(model, index, point)
        entry: dict[str, Any] = {"model": model.in_recipe}
        return {**entry, "parameters": values} if values else entry

    def _values(self, model: ModelName | None, index: int, point: Point) -> dict[str, Any]:
        found: dict[str, list[tuple[str | None, Any]]] = {}
        for slot, value in read(self._slots_at.get((model, index), ()), point, self.starts):
            found.setdefault(slot.parameter, []).append((slot.filter, value))
        if self.architecture.has_buffers:  # equal in all models: any value, but mergekit wants one
            found = {name: with_rest(v, 1 / len(self.inputs.weighted)) for name, v in found.items()}
        return {name: with_filters(values) for name, values in found.items()}

"""The weights of several parts of models, as training moves them: one part after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from evomerge.genome.inputs import Inputs
from evomerge.merge_spaces.learnable import Learnable
from evomerge.merge_spaces.slots import Coupled, Reader, ValueSlot, Variable
from evomerge.nouns.space import Point, Space
from evomerge.recipe.plain import Recipe

Named = Callable[[str], str]
# (part -> what its recipe is made of in another's place, point) -> the recipe
Write = Callable[[Mapping[str, Learnable], Point], Recipe]


class LearnableParts:
    """Parts that are filled slot by slot, each by itself.

    Args:
        space: Of all parts.
        inputs: The models of all parts.
        parts: Part -> its own weights.
        named: Part -> from the name of a parameter in its space to that in the space of all.
        write: Writes a recipe.
    """

    def __init__(
        self,
        space: Space,
        inputs: Inputs,
        parts: Mapping[str, Learnable],
        named: Mapping[str, Named],
        write: Write,
    ) -> None:
        self.space, self.inputs = space, inputs
        self._parts, self._named, self._write = parts, named, write
        self._own: list[tuple[str, ValueSlot]] = []
        self.slots: Sequence[ValueSlot] = self._listed()

    def _listed(self) -> list[ValueSlot]:
        """The slots of all parts; no place of one is a place of another."""
        found: list[ValueSlot] = []
        first = 0
        for name, part in self._parts.items():
            for slot in part.slots:
                self._own.append((name, slot))
                reader = _called(slot.reader, self._named[name])
                found.append(replace(slot, slice=first + slot.slice, reader=reader))
            first += 1 + max((slot.slice for slot in part.slots), default=-1)
        return found

    @property
    def gives_normalize(self) -> bool:
        """See :class:`Learnable`; of any part."""
        return any(part.gives_normalize for part in self._parts.values())

    def is_given(self, slot: ValueSlot) -> bool:
        """See :class:`Learnable`."""
        name, own = self._own[list(self.slots).index(slot)]
        return self._parts[name].is_given(own)

    def recipe(self, point: Point) -> Recipe:
        """See :class:`Learnable`."""
        return self._write(self._parts, point)

    def with_slots(self, slots: Sequence[ValueSlot]) -> LearnableParts:
        """See :class:`Learnable`; what is read from a point is read as before."""
        filled: dict[str, list[ValueSlot]] = {name: [] for name in self._parts}
        for (name, own), before, slot in zip(self._own, self.slots, slots, strict=True):
            is_same = slot.reader is before.reader
            filled[name].append(own if is_same else replace(own, reader=slot.reader))
        parts = {name: part.with_slots(filled[name]) for name, part in self._parts.items()}
        return LearnableParts(self.space, self.inputs, parts, self._named, self._write)


def _called(reader: Reader, named: Named) -> Reader:
    """What a value is read from, by other names of its coordinates."""
    if isinstance(reader, Variable):
        return replace(reader, names=tuple(map(named, reader.names)))
    if isinstance(reader, Coupled):
        weights = [replace(one, names=tuple(map(named, one.names))) for one in reader.weights]
        return replace(reader, weights=tuple(weights))
    return reader

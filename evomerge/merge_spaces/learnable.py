"""Weights of a recipe that training may move: what a merge space shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from typing_extensions import Self

from evomerge.genome.inputs import Inputs
from evomerge.merge_spaces.slots import ValueSlot
from evomerge.nouns.space import Point, Space
from evomerge.recipe.plain import Recipe


class Learnable(Protocol):
    """Recipes that are filled slot by slot; of what varies only weights are learned."""

    @property
    def space(self) -> Space:
        """What varies."""

    @property
    def inputs(self) -> Inputs:
        """The models of every recipe."""

    @property
    def slots(self) -> Sequence[ValueSlot]:
        """Where each value of a recipe stands, and what it is read from."""

    @property
    def gives_normalize(self) -> bool:
        """Whether the genome says itself if weights are divided by their sum."""

    def is_given(self, slot: ValueSlot) -> bool:
        """Whether the range of a slot is the genome's own."""

    def recipe(self, point: Point) -> Recipe:
        """What a point of the space means."""

    def with_slots(self, slots: Sequence[ValueSlot]) -> Self:
        """The same, its recipes written from other slots."""

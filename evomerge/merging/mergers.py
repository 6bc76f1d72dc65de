"""Brings recipes of every kind to life, each by the merger of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from evomerge.foundations.deadline import Deadline
from evomerge.merging import MERGERS
from evomerge.merging.base import KindMerger
from evomerge.recipe.plain import Recipe

if TYPE_CHECKING:
    from evomerge.merging.live_model import LiveModel
    from evomerge.merging.resident import ResidentMerger


class Mergers:
    """One merger per kind of recipe, made with the first recipe of its kind.

    Args:
        make: Makes a merger of plain merges.

    Attributes:
        resident: The one that stays, and holds the sources of the search.
        make: As given, for recipes whose sources nobody needs afterwards.
    """

    def __init__(self, make: Callable[[], ResidentMerger]) -> None:
        self.make = make
        self.resident = make()
        self._of_kind: dict[str, KindMerger] = {}

    def merge(self, recipe: Recipe, deadline: Deadline | None = None) -> LiveModel:
        """See :class:`evomerge.merging.base.Merger`."""
        if recipe.kind not in self._of_kind:
            self._of_kind[recipe.kind] = self._merger_of(recipe)
        for kind, merger in self._of_kind.items():
            if kind != recipe.kind:
                merger.drop_live()
        return self._of_kind[recipe.kind].merge(recipe, deadline)

    def _merger_of(self, recipe: Recipe) -> KindMerger:
        """That of its kind; of a kind without an entry the one that needs none."""
        from evomerge.merging.built_merger import BuiltMerger  # both stand upon this module
        from evomerge.merging.mixture_merger import MixtureMerger

        if recipe.kind in MERGERS:
            return MERGERS[recipe.kind](self)
        return BuiltMerger(self) if recipe.pool is None else MixtureMerger(self)

    def forget_structures(self, coming: Recipe | None = None) -> None:
        """See :class:`evomerge.merging.base.Merger`."""
        for kind, merger in self._of_kind.items():
            merger.forget_structures(coming if coming and coming.kind == kind else None)

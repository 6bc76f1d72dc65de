"""The contract of what brings recipes to life, one merger per kind of recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evomerge.foundations.deadline import Deadline
    from evomerge.merging.live_model import LiveModel
    from evomerge.recipe.plain import Recipe


class Merger(Protocol):
    """Turns recipe after recipe into a live model.

    What was scored is what is exported: its weights are those that mergekit's own commands build,
    where any does.
    """

    def merge(self, recipe: Recipe, deadline: Deadline | None = None) -> LiveModel:
        """The model of a recipe; it may be overwritten by the next merge.

        Raises:
            MergeError: the recipe cannot be merged.
            LostFileError: a model's file is gone, which no other recipe would mend.
            TrialTimeoutError: the deadline is over.
        """

    def forget_structures(self, coming: Recipe | None = None) -> None:
        """Gives back what was kept for recipes that will not come again.

        Args:
            coming: The one that is merged next; None: nobody knows.
        """


class KindMerger(Merger, Protocol):
    """A merger of one kind of recipe, among those of others."""

    def drop_live(self) -> None:
        """Gives back its live model: another kind's comes, and a worker has one at a time."""

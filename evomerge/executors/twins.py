"""Evaluations of earlier candidates, found again by the weights that they make."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evomerge.recipe import Recipe
from evomerge.trial import Evaluation

if TYPE_CHECKING:
    from evomerge.merging.live_model import LiveModel

KEPT = 64  # evaluations; the oldest go
Key = tuple[str, int, str]  # split, what the batch is divided by, the mark of a model
Merge = Callable[[Recipe], "LiveModel"]


@dataclass(frozen=True)
class Known:
    """What was found of a candidate.

    Attributes:
        recipe: Its recipe, which makes its weights again.
        evaluation: Its evaluation.
        batch_divisor: What the batch was divided by to fit.
    """

    recipe: Recipe
    evaluation: Evaluation
    batch_divisor: int


class Twins:
    """Tells whether a merged candidate is an earlier one under another recipe.

    It is suspected by a few entries of every tensor. All of them are compared then, for which the
    earlier one is merged again: the price of a merge or two in place of forward passes.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Known] = OrderedDict()

    def key_of(self, model: LiveModel, split: str, batch_divisor: int) -> Key:
        """Equal for equal models that are scored alike."""
        from evomerge.merging.likeness import mark_of  # heavy, as a model is

        return split, batch_divisor, mark_of(model)

    def keep(self, key: Key, known: Known) -> None:
        """Remembers what was found of a model."""
        self._known[key] = known
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def suspects(self, key: Key, recipe: Recipe) -> bool:
        """Whether the model of another recipe may be the same."""
        return key in self._known and self._known[key].recipe != recipe

    def twin(self, key: Key, weights: str, merge: Merge) -> Known | None:
        """What is known of a suspect with the very same weights.

        Args:
            key: Of the model.
            weights: A digest of all of its weights.
            merge: Makes the model of a recipe; it may overwrite the one at hand.
        """
        known = self._known[key]
        return known if digest_of(merge(known.recipe)) == weights else None


def digest_of(model: LiveModel) -> str:
    """Of all weights of a model."""
    from evomerge.merging.likeness import weights_of

    return weights_of(model)

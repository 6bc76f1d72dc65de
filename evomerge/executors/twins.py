"""Evaluations of earlier candidates, found again by the weights that they make."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evomerge.nouns.evaluation import Evaluation
from evomerge.recipe.plain import Recipe

if TYPE_CHECKING:
    from evomerge.merging.live_model import LiveModel

KEPT = 64  # evaluations; the oldest go
Key = tuple[str, int, str]  # split, what the batch is divided by, the mark of a model


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
    """Remembers candidates by the weights that they make.

    A candidate is suspected to be an earlier one by a few entries of every tensor. All of them
    are compared then, for which the earlier one is merged again: the price of a merge or two in
    place of forward passes.
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

    def suspect(self, key: Key, recipe: Recipe) -> Known | None:
        """What is known of a model that may be the same, under another recipe."""
        known = self._known.get(key)
        return known if known is not None and known.recipe != recipe else None


def digest_of(model: LiveModel) -> str:
    """Of all weights of a model."""
    from evomerge.merging.likeness import weights_of

    return weights_of(model)

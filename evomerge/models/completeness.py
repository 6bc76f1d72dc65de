"""Whether a model's tensors are those that mergekit knows of its architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.models.conversion import unconvertible
from evomerge.models.facts import ModelFacts
from evomerge.models.families import family_of
from evomerge.models.family import COMPUTED, Weight


@dataclass(frozen=True)
class Unmatched:
    """What the tensors of a model and those that mergekit expects do not have in common.

    Attributes:
        lacking: Names that must be there and are not, be they made of others or not.
        unknown: Names that mergekit would leave out.
    """

    lacking: tuple[str, ...]
    unknown: tuple[str, ...]


def weights_of(model: ModelFacts) -> Sequence[Weight]:
    """The tensors mergekit expects in a model; none where its files or family are not known."""
    if not model.tensors or model.missing or model.broken:
        return ()
    family = family_of(model)
    return () if family is None else tuple(family.weights(family.n_layers(model)))


def unmatched(model: ModelFacts) -> Unmatched:
    """The tensors on which mergekit and a model's files do not agree."""
    weights = weights_of(model)
    known = {name for weight in weights for name in weight.names}
    return Unmatched(
        tuple(
            w.name for w in weights if not w.is_optional and not set(w.names) & model.tensors.keys()
        ),
        tuple(n for n in model.tensors if n not in known and not n.endswith(COMPUTED)),
    )


def can_be_merged(model: ModelFacts) -> bool:
    """Whether mergekit reads every tensor of a model, and finds all that it needs."""
    if not weights_of(model):
        return False
    found = unmatched(model)
    if unconvertible(model, found.lacking):
        return False
    return bool(found.lacking) or not found.unknown  # a conversion takes unknown for lacking ones

"""Where in a model the coordinates of a space belong, for optimizers that treat places apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evomerge.merge_spaces.slots import Coupled, ValueSlot, Variable
from evomerge.merge_spaces.slotted import SlotSpace
from evomerge.merge_spaces.unit_weights import Shares
from evomerge.models.architecture import Architecture

# Slice; before, inside or after its layers; control point of a depth profile; filter.
_Place = tuple[int, int, int, str]


def places_of(merge_space: SlotSpace) -> NDArray[np.intp] | None:
    """Per coordinate the number of its place, shape (n_dims,), from the first layers to the last.

    Coordinates of one place set the same tensors: the weights of several models, say. None where
    the space has one place, or its coordinates follow the layers anyway.
    """
    place_of: dict[str, _Place] = {}
    for slot in merge_space.slots:
        for name, control in _read_by(slot):
            place = _place(slot, control, merge_space.architecture)
            place_of[name] = min(place, place_of.get(name, place))
    ordered = sorted(set(place_of.values()))
    if len(ordered) < 2:
        return None
    return np.array([ordered.index(place_of[parameter.name]) for parameter in merge_space.space])


def has_shares(merge_space: SlotSpace) -> bool:
    """Whether coordinates are shares of what is left, in which weights are no sums."""
    readers = [slot.reader for slot in merge_space.slots]
    coupled = [one for reader in readers if isinstance(reader, Coupled) for one in reader.weights]
    return any(isinstance(one, Shares) and len(one.names) > 1 for one in coupled)


def _read_by(slot: ValueSlot) -> Iterator[tuple[str, int]]:
    """The coordinates that a value is read from, each with its control point."""
    reader = slot.reader
    if isinstance(reader, Variable):
        yield from ((name, control) for control, name in enumerate(reader.names))
    elif isinstance(reader, Coupled):
        for control, weights in enumerate(reader.weights):
            yield from ((name, control) for name in weights.names)


def _place(slot: ValueSlot, control: int, architecture: Architecture) -> _Place:
    """Embeddings come before the layers of the first slice, norm and head after the last."""
    text = slot.filter or ""
    end = 0
    if text and any(text in name for name in architecture.embeddings):
        end = -1
    elif text and any(text in name for name in (*architecture.final_norm, *architecture.head)):
        end = 1
    return slot.slice, end, control, text

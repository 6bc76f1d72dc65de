"""A few points of a space that lie far apart, for what holds in all of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evomerge.nouns.space import Choice, Point, Space

_RAMPS = ((0, 1), (1, 0))  # through the unit cube: a space of structures has others there


def extreme_points(space: Space) -> Iterator[Point]:
    """The start, and two points at which every coordinate differs."""
    for genotype in (space.initial, *(np.linspace(*ends, space.n_dims) for ends in _RAMPS)):
        yield space.decode(genotype)


def end_points(space: Space) -> Iterator[Point]:
    """The start, and points among which every number has both ends and every choice each value."""
    yield space.decode(space.initial)
    choices = [one.n_values for one in space if isinstance(one, Choice)]
    for index in range(max(2, *choices) if choices else 2):
        yield {
            one.name: one.values[index % one.n_values]
            if isinstance(one, Choice)
            else (one.low, one.high)[index % 2]
            for one in space
        }

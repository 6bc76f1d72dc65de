"""A few points of a space that lie far apart, for what holds in all of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evomerge.nouns.space import Point, Space

_RAMPS = ((0, 1), (1, 0))  # through the unit cube: a space of structures has others there


def extreme_points(space: Space) -> Iterator[Point]:
    """The start, and two points at which every coordinate differs."""
    for genotype in (space.initial, *(np.linspace(*ends, space.n_dims) for ends in _RAMPS)):
        yield space.decode(genotype)

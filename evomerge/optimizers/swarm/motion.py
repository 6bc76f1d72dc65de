"""How particles move: the update of Model Swarms, its walls, and crossover.

Everything here adds genotypes with weights whose sum is 1, or steps between genotypes. Where
weights are affine in the coordinates, sums of genotypes are the same sums of models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Groups = NDArray[np.intp]

_ROUNDING = 1e-9
_LONGEST = 2.0  # a child lies between its second parent and as far beyond the first


@dataclass(frozen=True)
class Pulls:
    """What a particle is drawn to; a row per particle, each of shape (k, n_dims).

    Attributes:
        own: The best place each particle has been at.
        best: The best place of the swarm.
        worst: The worst place of the swarm.
    """

    own: Array
    best: Array
    worst: Array


def shares(strengths: Array, draws: Array) -> Array:
    """How much of a step each of the four terms is.

    Args:
        strengths: Inertia, cognitive, social, repel; shape (4,), none below 0, one above.
        draws: In (0, 1], shape (4, ...).

    Returns:
        The shape of ``draws``; sums to 1 over the first axis.
    """
    weighted = draws * strengths.reshape(-1, *[1] * (draws.ndim - 1))
    portions: Array = weighted / weighted.sum(axis=0)
    return portions


def moved(
    places: Array, velocities: Array, pulls: Pulls, portions: Array, step: float, groups: Groups
) -> tuple[Array, Array]:
    """Places and velocities after one move, inside the cube; shapes (k, n_dims).

    Both pulls lead to places inside, the last step and the push may lead out of it: in each group
    of coordinates as much of the two is made as there is room for, all by the same factor, so
    that what was a sum of places remains one.

    Args:
        places: Where the particles are, inside the cube.
        velocities: Their last steps.
        pulls: What draws them.
        portions: Of :func:`shares`, shape (4, k, 1) or (4, k, n_dims); alike where weights are to
            stay sums of models.
        step: The step length.
        groups: Per coordinate the number of its group, shape (n_dims,).
    """
    inertia, cognitive, social, repel = portions
    inward = cognitive * (pulls.own - places) + social * (pulls.best - places)
    outward = inertia * velocities + repel * (places - pulls.worst)
    room = np.minimum(way_left(places + step * inward, step * outward, groups), 1.0)
    velocities = inward + room * outward
    # Long steps (above 1) may lead out by the pulls alone.
    velocities = np.minimum(way_left(places, step * velocities, groups), 1.0) * velocities
    after: Array = np.clip(places + step * velocities, 0.0, 1.0)  # rounding only
    return after, velocities


def way_left(places: Array, way: Array, groups: Groups) -> Array:
    """How many times a way fits into the cube, 0 or more; infinite for no way.

    Args:
        places: Where it begins, shape (k, n_dims).
        way: Of the same shape.
        groups: Per coordinate the number of its group, shape (n_dims,).

    Returns:
        Shape (k, n_dims): the same for all coordinates of a group.
    """
    away = np.abs(way)
    room = np.maximum(np.where(way > 0, 1.0 - places, places), 0.0)
    longest = np.divide(room, away, out=np.full_like(away, np.inf), where=away > 0)
    shortest = np.full((int(groups.max()) + 1, len(places)), np.inf)
    np.minimum.at(shortest, groups, longest.T)
    times: Array = shortest[groups].T
    return times


def mirrored(places: Array) -> Array:
    """Places outside the cube come back from the face they passed, as light from a mirror."""
    is_inside = (places >= 0.0) & (places <= 1.0)
    return np.where(is_inside, places, np.clip(1.0 - np.abs(1.0 - places % 2.0), 0.0, 1.0))


def child(first: Array, second: Array, draws: Array, groups: Groups) -> Array:
    """``t * first + (1 - t) * second`` with t = 2u, less where the cube ends earlier.

    Args:
        first: A genotype; t = 1 gives it back.
        second: Another one; t = 0 gives it back.
        draws: u in [0, 1), one for each group of coordinates that have one t.
        groups: Per coordinate the number of its group, shape (n_dims,).
    """
    way = first - second
    longest = np.minimum(way_left(second[None], way[None], groups)[0], _LONGEST)
    born: Array = np.clip(second + longest * draws[groups] * way, 0.0, 1.0)  # rounding only
    return born


def has_room(experts: Array) -> bool:
    """Whether every child of two of these lies inside the cube, the farthest ones, too."""
    farthest = _LONGEST * experts[:, None] + (1 - _LONGEST) * experts
    is_inside = (farthest >= -_ROUNDING) & (farthest <= 1 + _ROUNDING)
    return len(experts) > 1 and bool(is_inside.all())

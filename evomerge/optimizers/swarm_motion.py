"""How particles move: the update of Model Swarms, its walls, and crossover.

Everything here adds genotypes with weights whose sum is 1, or steps between genotypes. Where
weights are affine in the coordinates, sums of genotypes are the same sums of models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

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
    places: Array, velocities: Array, pulls: Pulls, portions: Array, step: float
) -> tuple[Array, Array]:
    """Places and velocities after one move, walls not yet minded; shapes (k, n_dims).

    Args:
        places: Where the particles are.
        velocities: Their last steps.
        pulls: What draws them.
        portions: Of :func:`shares`, shape (4, k, 1) or (4, k, n_dims); alike where weights are to
            stay sums of models.
        step: The step length.
    """
    inertia, cognitive, social, repel = portions
    velocities = (
        inertia * velocities
        + cognitive * (pulls.own - places)
        + social * (pulls.best - places)
        + repel * (places - pulls.worst)
    )
    return places + step * velocities, velocities


def bounced(places: Array, velocities: Array) -> tuple[Array, Array]:
    """Particles that left the cube come back from the face they hit, as light from a mirror."""
    is_inside = (places >= 0.0) & (places <= 1.0)
    mirrored = np.clip(1.0 - np.abs(1.0 - places % 2.0), 0.0, 1.0)
    is_turned = ~is_inside & (np.floor(places) % 2 == 1)
    return (
        np.where(is_inside, places, mirrored),
        np.where(is_turned, -velocities, velocities),
    )


def child(first: Array, second: Array, draws: Array, groups: NDArray[np.intp]) -> Array:
    """``t * first + (1 - t) * second`` with t = 2u, less where the cube ends earlier.

    Args:
        first: A genotype; t = 1 gives it back.
        second: Another one; t = 0 gives it back.
        draws: u in [0, 1), one for each group of coordinates that have one t.
        groups: Per coordinate the number of its group, shape (n_dims,).
    """
    way = first - second
    room = np.where(way > 0, 1.0 - second, second)
    away = np.abs(way)
    longest = np.divide(room, away, out=np.full_like(away, _LONGEST), where=away > 0)
    shortest = np.full(len(draws), _LONGEST)
    np.minimum.at(shortest, groups, longest)
    born: Array = np.clip(second + (shortest * draws)[groups] * way, 0.0, 1.0)  # rounding only
    return born

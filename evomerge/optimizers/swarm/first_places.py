"""Where the particles of a swarm begin: seeds, parents, other known trials, and children of these.

Source and differences: see ``particles.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.nouns.space import Space
from evomerge.optimizers.focus import Focus
from evomerge.optimizers.search_context import SearchContext
from evomerge.optimizers.swarm.motion import child, mirrored

Array = NDArray[np.float64]

_SAME = 1e-12  # coordinates this near are the same place
_NEARBY = 1 / 20  # of the way between models: deviation of first places around a known one
_NEARBY_STEPS = 0.3  # steps, where there is no such way


@dataclass(frozen=True)
class FirstPlaces:
    """What is known before a swarm moves, and where it may begin.

    Attributes:
        space: What is searched, its start at a known trial perhaps.
        middle: Where the space itself starts, shape (n_dims,).
        context: Parents, seeds, and whether the search begins at the best.
        known: Places of trials that have losses, shape (k, n_dims).
        losses: Of these, shape (k,).
        drawn_alike: Per coordinate the number of the draw that it shares, shape (n_dims,).
        random: Where what is drawn comes from.
    """

    space: Space
    middle: Array
    context: SearchContext
    known: Array
    losses: Array
    drawn_alike: NDArray[np.intp]
    random: np.random.Generator

    def of(self, count: int) -> Array:
        """Seeds, experts, other known trials, then children; random places without two.

        Around the best where the search is to begin there; shape (count, n_dims).
        """
        if self.context.begins_at_best:
            return self._nearby(count)
        seeds = self._seeds()
        parents = self._experts(count)
        experts = [one for one in parents if not any(_is_same(one, s) for s in seeds)]
        places = [*seeds, *experts][:count]
        for index in np.argsort(self.losses, kind="stable"):
            is_new = not any(_is_same(self.known[index], place) for place in places)
            if is_new and len(places) < max(count // 2, 1):
                places.append(self.known[index])
        if len(places) < 2:
            start = self.middle
            places += [] if any(_is_same(start, place) for place in places) else [start]
            return np.vstack([*places, anywhere(self.space, count - len(places), self.random)])
        while len(places) < count:
            first, second = self.random.choice(len(places), size=2, replace=False)
            draws = self.random.random(int(self.drawn_alike.max()) + 1)
            places.append(child(places[first], places[second], draws, self.drawn_alike))
        return np.stack(places)

    def loss_known_of(self, place: Array) -> float | None:
        """The loss of a place, None where nobody knows."""
        for known, loss in zip(self.known, self.losses, strict=True):
            if _is_same(known, place):
                return float(loss)
        return None

    def _nearby(self, count: int) -> Array:
        """The best place so far, and others around it: to leave what was found is to lose it.

        Where it is a seed, the other seeds are the next particles.
        """
        is_known = len(self.losses) > 0
        centre = self.known[np.argmin(self.losses)] if is_known else self.space.initial
        steps = self._deviations(count) * self.random.standard_normal((count, len(centre)))
        steps[0] = 0.0
        places = mirrored(centre + steps)
        seeds = self._seeds()
        others = [one for one in seeds if not _is_same(one, centre)][: count - 1]
        if others and len(others) < len(seeds):
            places[1 : 1 + len(others)] = others
        return places

    def _deviations(self, count: int) -> Array:
        """How far places lie around one, shape (n_dims,): a share of the way between models."""
        steps = _NEARBY_STEPS * self.space.steps
        experts = self._experts(count)
        if len(experts) < 2:
            return steps
        ways = np.ptp(experts, axis=0)
        return np.where(ways > 0, _NEARBY * ways, steps)

    def _seeds(self) -> list[Array]:
        """The seeds whose losses are known, the best first, each place once."""
        found: list[Array] = []
        seeds = () if self.context.seeds is None else self.context.seeds
        for place in self.known[np.argsort(self.losses, kind="stable")]:
            is_new = not any(_is_same(place, one) for one in found)
            if is_new and any(_is_same(place, seed) for seed in seeds):
                found.append(place)
        return found

    def _experts(self, count: int) -> Array:
        """The parents; the best first where there are more than particles."""
        experts = self.context.experts
        if experts is None:
            return np.empty((0, self.space.n_dims))
        if len(experts) <= count:
            return experts
        losses = [self.loss_known_of(expert) for expert in experts]
        order = np.argsort([np.inf if loss is None else loss for loss in losses], kind="stable")
        best: Array = experts[order]
        return best


def anywhere(space: Space, count: int, random: np.random.Generator) -> Array:
    """Random places, more of them near the start; shape (count, n_dims)."""
    return Focus(space).meant(random.random((count, space.n_dims)))


def _is_same(place: Array, other: Array) -> bool:
    return bool(np.abs(place - other).max() <= _SAME)

"""Model Swarms: particle swarm optimisation over merges.

Each particle is a merge. It keeps some of its last step, and is drawn to the best place it has
been at, to the best of the swarm, and away from the worst.

Source: Feng et al., Model Swarms (2024), arXiv:2410.11163; equations in ``swarm_motion.py``.
Differs: particles are genotypes, not checkpoints: same equations, nothing rounded, nothing
written. Where the genome gives no range, the box has models and
what lies beyond them inside, and weights are coordinates (``looks_beyond_models``); there a draw
is the paper's, one for the whole model. In a box without that room, places of the model (layer
groups, filters) draw steps of their own: one draw would lead nowhere but between the first
particles (``draws``). Coordinates that are shares of what is left (weights >= 0 that sum to 1)
are no weights: there a particle is no affine sum of models. Particles stay in the cube, where the
authors' go anywhere: of the last step and the push from the worst place as much is left out as
would lead out of it, alike for all that is drawn together, so that sums remain sums; a child is
drawn from as much of the paper's line as lies inside. Uniform average and other known trials
join the first particles and count among the best. A restarted particle waits for its patience
anew (the authors' code restarts it every iteration from then on). A dropped evaluation has no
loss, where their code books the last one again, and an iteration without any shortens no step
and tries no patience.
A failed trial is never the worst place. Ties keep the earlier place. Seeds are the first
particles; where one of them is the best trial known, or another optimizer of a chain came before,
the others begin around the best place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.errors import Problem
from evomerge.foundations.seeding import stream
from evomerge.nouns.origin import proposed
from evomerge.nouns.space import Space
from evomerge.optimizers.base import Optimizer, OptimizerSettings
from evomerge.optimizers.focus import Focus
from evomerge.optimizers.search_context import SearchContext
from evomerge.optimizers.swarm.motion import Pulls, child, has_room, mirrored, moved, shares
from evomerge.optimizers.swarm.swarm_notes import all_notes
from evomerge.optimizers.swarm.swarm_settings import SwarmSettings

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

START = "swarm-start.json"  # the artifact that says which particles began at known trials
_SAME = 1e-12  # coordinates this near are the same place
_NEARBY = 1 / 20  # of the way between models: deviation of first places around a known one
_NEARBY_STEPS = 0.3  # steps, where there is no such way


class Swarm(Optimizer):
    """Particles drawn to their own best place and the swarm's, and away from its worst."""

    Settings: ClassVar[type[OptimizerSettings]] = SwarmSettings
    only_ranks_matter: ClassVar[bool] = True
    continuous_only: ClassVar[bool] = True
    looks_beyond_models: ClassVar[bool] = True
    takes_migrants: ClassVar[bool] = True
    min_population_size: ClassVar[int] = 2  # one alone has nobody to move towards
    settings: SwarmSettings

    @classmethod
    def notes(cls, space: Space, context: SearchContext, settings: Any) -> Iterator[Problem]:
        """Where its particles are few sums of models, or none."""
        yield from all_notes(space, context, settings)

    @classmethod
    def default_population_size(cls, n_dims: int) -> int:
        """20, as in the paper; of 5 to 20 the best on formulas at 100 trials."""
        return 20

    def _start(self) -> None:
        self._rng = stream(self.seed, "optimizer")
        self._middle = self.space.initial  # also once the space starts at a known trial
        self._drawn_alike = self._groups()
        self._iteration = -1
        self._step = self.settings.step_length
        self._n_stale = 0
        self._n_looked_at = 1  # iterations, with the one before the first move
        self._known_places: Array = np.empty((0, self.space.n_dims))
        self._known_losses: Array = np.empty(0)
        self._best: tuple[float, Array] | None = None
        self._worst: tuple[float, Array] | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it stands still, or has moved as often as it may."""
        settings = self.settings
        stale, moves = settings.stale_iterations, settings.max_iterations
        # As the authors count: of so many iterations the first may be the one that found the
        # best, and one more than these has been looked at.
        is_stale = stale is not None and self._n_stale + 1 >= stale and self._n_looked_at > stale
        return is_stale or (moves is not None and self._iteration >= moves)

    def _learn(self, genotypes: Array, losses: Array) -> None:
        finite = np.isfinite(losses)
        self._known_places = np.vstack([self._known_places, genotypes[finite]])
        self._known_losses = np.append(self._known_losses, losses[finite])
        self._rank(genotypes, losses)

    def _ask(self) -> Array:
        rows = self._settle() if self._iteration < 0 else np.empty(0, dtype=int)
        while not len(rows):
            self._move()
            rows = self._evaluated()
        self._rows = rows
        self.origins = tuple(
            proposed(
                f"particle {row}, iteration {self._iteration}",
                particle=int(row),
                iteration=self._iteration,
            )
            for row in rows
        )
        asked: Array = self._places[rows]
        return asked

    def _tell(self, genotypes: Array, losses: Array) -> None:
        has_improved = self._rank(genotypes, losses)
        self._remember(self._rows, losses)
        if self._iteration:
            self._step *= self.settings.step_length_factor
            self._step = max(self._step, self.settings.minimum_step_length)
            self._n_stale = 0 if has_improved else self._n_stale + 1
            self._n_looked_at += 1

    # The first particles

    def _settle(self) -> Rows:
        """Places the particles; those whose losses nobody has told are to be asked for."""
        self._iteration = 0
        self._places = self._first_places()
        count = len(self._places)
        self._own, self._own_losses = self._places.copy(), np.full(count, np.inf)
        self._n_since = np.zeros(count, dtype=int)  # evaluations since the last better one
        known = [self._loss_known_of(place) for place in self._places]
        rows = np.array([row for row, loss in enumerate(known) if loss is not None], dtype=int)
        self._remember(rows, np.array([loss for loss in known if loss is not None]))
        self._keep(rows)
        self._velocities = self._first_velocities()
        return np.array([row for row, loss in enumerate(known) if loss is None], dtype=int)

    def _first_places(self) -> Array:
        """Seeds, experts, other known trials, then children; random places without two."""
        count = self.population_size
        if self.context.begins_at_best:
            return self._places_nearby(count)
        seeds = self._seeds()
        experts = [one for one in self._experts() if not any(_is_same(one, s) for s in seeds)]
        places = [*seeds, *experts][:count]
        for index in np.argsort(self._known_losses, kind="stable"):
            is_new = not any(_is_same(self._known_places[index], place) for place in places)
            if is_new and len(places) < max(count // 2, 1):
                places.append(self._known_places[index])
        if len(places) < 2:
            start = self._middle
            places += [] if any(_is_same(start, place) for place in places) else [start]
            return np.vstack([*places, self._anywhere(count - len(places))])
        while len(places) < count:
            first, second = self._rng.choice(len(places), size=2, replace=False)
            draws = self._rng.random(self._width)
            places.append(child(places[first], places[second], draws, self._drawn_alike))
        return np.stack(places)

    def _places_nearby(self, count: int) -> Array:
        """The best place so far, and others around it: to leave what was found is to lose it.

        Where it is a seed, the other seeds are the next particles.
        """
        centre = self.space.initial if self._best is None else self._best[1]
        steps = self._nearby() * self._rng.standard_normal((count, self.space.n_dims))
        steps[0] = 0.0
        places = mirrored(centre + steps)
        seeds = self._seeds()
        others = [one for one in seeds if not _is_same(one, centre)][: count - 1]
        if others and len(others) < len(seeds):
            places[1 : 1 + len(others)] = others
        return places

    def _anywhere(self, count: int) -> Array:
        """Random places, more of them near the start; shape (count, n_dims)."""
        return Focus(self.space).meant(self._rng.random((count, self.space.n_dims)))

    def _nearby(self) -> Array:
        """How far places lie around one, shape (n_dims,): a share of the way between models."""
        steps = _NEARBY_STEPS * self.space.steps
        experts = self._experts()
        if len(experts) < 2:
            return steps
        ways = np.ptp(experts, axis=0)
        return np.where(ways > 0, _NEARBY * ways, steps)

    def _seeds(self) -> list[Array]:
        """The seeds whose losses are known, the best first, each place once."""
        found: list[Array] = []
        seeds = () if self.context.seeds is None else self.context.seeds
        for place in self._known_places[np.argsort(self._known_losses, kind="stable")]:
            is_new = not any(_is_same(place, one) for one in found)
            if is_new and any(_is_same(place, seed) for seed in seeds):
                found.append(place)
        return found

    def _experts(self) -> Array:
        """The parents; the best first where there are more than particles."""
        experts = self.context.experts
        if experts is None:
            return np.empty((0, self.space.n_dims))
        if len(experts) <= self.population_size:
            return experts
        losses = [self._loss_known_of(expert) for expert in experts]
        order = np.argsort([np.inf if loss is None else loss for loss in losses], kind="stable")
        best: Array = experts[order]
        return best

    def _loss_known_of(self, place: Array) -> float | None:
        for known, loss in zip(self._known_places, self._known_losses, strict=True):
            if _is_same(known, place):
                return float(loss)
        return None

    def _keep(self, rows: Rows) -> None:
        """Keeps which particles began at known trials: no trial of their own says it."""
        if self.context.artifacts.recall(START) is None:
            known = {str(row): self._places[row].tolist() for row in rows}
            self.context.artifacts.keep(START, json.dumps(known, sort_keys=True).encode())

    def _first_velocities(self) -> Array:
        """Towards another particle each; ``best`` is known only when all have their losses."""
        count = len(self._places)
        if self.settings.initial_velocity != "random":
            return np.zeros_like(self._places)
        others = (np.arange(count) + self._rng.integers(1, count, size=count)) % count
        velocities: Array = self._places[others] - self._places
        return velocities

    # One iteration

    def _groups(self) -> Rows:
        """Per coordinate the number of the draw that it shares with others; shape (n_dims,)."""
        n_dims, places = self.space.n_dims, self.context.places
        draws, experts = self.settings.draws, self.context.experts
        if draws is None:
            draws = "place" if experts is None or not has_room(experts) else "model"
        if draws == "coordinate":
            return np.arange(n_dims)
        if draws == "model" or places is None:
            return np.zeros(n_dims, dtype=int)
        return places

    @property
    def _width(self) -> int:
        """How many numbers one draw has."""
        return int(self._drawn_alike.max()) + 1

    def _move(self) -> None:
        """Moves every particle by what was known when the iteration began."""
        if self._iteration == 0 and self.settings.initial_velocity == "best" and self._best:
            self._velocities = self._best[1] - self._places
        self._iteration += 1
        self._restart()
        places, count = self._places, len(self._places)
        pulls = Pulls(
            self._own,
            places if self._best is None else self._best[1],
            places if self._worst is None else self._worst[1],
        )
        settings, shape = self.settings, (4, count, self._width)
        strengths = np.array(
            [settings.inertia, settings.cognitive, settings.social, settings.repel]
        )
        draws = 1.0 - self._rng.random(shape) if settings.randomness else np.ones(shape)
        portions = shares(strengths, draws)[..., self._drawn_alike]
        self._places, self._velocities = moved(
            places, self._velocities, pulls, portions, self._step, self._drawn_alike
        )
        unproven = ~np.isfinite(self._own_losses)
        self._own[unproven] = self._places[unproven]

    def _restart(self) -> None:
        """Puts stray particles back where they were best, at rest; anywhere without such."""
        if not self.settings.restart:
            return
        stray = self._n_since + 1 >= self.settings.restart_patience  # its best one counts, too
        lost = stray & ~np.isfinite(self._own_losses)
        self._own[lost] = self._anywhere(int(lost.sum()))
        self._places[stray] = self._own[stray]
        self._velocities[stray] = 0.0
        self._n_since[stray] = 0

    def _evaluated(self) -> Rows:
        """Which particles are asked for; none where the whole iteration is dropped."""
        settings = self.settings
        draws = self._rng.random(len(self._places) + 1)
        if self.is_finished:  # the last move is looked at
            return np.arange(len(self._places))
        if draws[0] < settings.iteration_dropout:
            return np.empty(0, dtype=int)
        rows: Rows = np.flatnonzero(draws[1:] >= settings.particle_dropout)
        return rows

    def _remember(self, rows: Rows, losses: Array) -> None:
        """Each particle's best place, and how long ago it found it."""
        better = losses < self._own_losses[rows]
        self._own[rows[better]] = self._places[rows[better]]
        self._own_losses[rows[better]] = losses[better]
        self._n_since[rows] += 1
        self._n_since[rows[better]] = 0

    def _rank(self, genotypes: Array, losses: Array) -> bool:
        """The swarm's best and worst place so far; whether there is a better best."""
        finite = np.isfinite(losses)
        if not finite.any():
            return False
        losses, genotypes = losses[finite], genotypes[finite]
        low, high = int(np.argmin(losses)), int(np.argmax(losses))
        has_improved = self._best is None or losses[low] < self._best[0]
        if has_improved:
            self._best = float(losses[low]), genotypes[low].copy()
        if self._worst is None or losses[high] > self._worst[0]:
            self._worst = float(losses[high]), genotypes[high].copy()
        return has_improved


def _is_same(place: Array, other: Array) -> bool:
    return bool(np.abs(place - other).max() <= _SAME)

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
the others begin around the best place. With several workers it is asynchronous, as in Koh et al.,
Parallel asynchronous particle swarm optimization (2006), IJNME 67(4): a particle moves by itself
once its own outcome is in, by the best and worst places known then, those that moved least first;
an iteration, for what counts iterations, is as many outcomes as there are particles, and a dropout
of an iteration is each particle's own.
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
from evomerge.optimizers.search_context import SearchContext
from evomerge.optimizers.swarm.first_places import FirstPlaces, anywhere
from evomerge.optimizers.swarm.motion import Pulls, has_room, moved, shares
from evomerge.optimizers.swarm.swarm_notes import all_notes
from evomerge.optimizers.swarm.swarm_settings import SwarmSettings

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

START = "swarm-start.json"  # the artifact that says which particles began at known trials
_UNPLACED = -1


class Swarm(Optimizer):
    """Particles drawn to their own best place and the swarm's, and away from its worst."""

    Settings: ClassVar[type[OptimizerSettings]] = SwarmSettings
    only_ranks_matter: ClassVar[bool] = True
    continuous_only: ClassVar[bool] = True
    looks_beyond_models: ClassVar[bool] = True
    takes_migrants: ClassVar[bool] = True
    asks_any_time: ClassVar[bool] = True
    is_bounded: ClassVar[bool] = True
    with_others_out: ClassVar[str] = (
        "a move of the particle that moved least of those whose own outcomes are in, by the best "
        "and worst places known then; waits where all particles are out"
    )
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
        self._moves = np.full(self.population_size, _UNPLACED)  # of each particle
        self._row_of: dict[int, int] = {}  # number of a genotype that is out -> its particle
        self._n_in = 0  # outcomes of this iteration
        self._has_improved = False  # in this iteration
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
        return is_stale or (moves is not None and int(self._moves.min()) >= moves)

    @property
    def can_ask(self) -> bool:
        """Whether there is a particle to move."""
        return not self._out or len(self._movable) > 0

    @property
    def _movable(self) -> Rows:
        """Particles whose outcomes are in, and that have moves left."""
        is_movable = np.full(len(self._moves), True)
        is_movable[list(self._row_of.values())] = False
        if self.settings.max_iterations is not None:
            is_movable &= self._moves < self.settings.max_iterations
        rows: Rows = np.flatnonzero(is_movable)
        return rows

    def _learn(self, genotypes: Array, losses: Array) -> None:
        finite = np.isfinite(losses)
        self._known_places = np.vstack([self._known_places, genotypes[finite]])
        self._known_losses = np.append(self._known_losses, losses[finite])
        self._rank(genotypes, losses)

    def _ask(self) -> Array:
        rows = self._settle() if self._moves[0] == _UNPLACED else np.empty(0, dtype=int)
        while not len(rows):
            moving = self._next()
            self._move(moving)
            rows = self._evaluated(moving)
        self._row_of.update(enumerate(rows.tolist(), self._out.n_asked))
        self.origins = tuple(
            proposed(f"particle {row}, iteration {iteration}", particle=row, iteration=iteration)
            for row, iteration in zip(rows.tolist(), self._moves[rows].tolist(), strict=True)
        )
        asked: Array = self._places[rows]
        return asked

    def _next(self) -> Rows:
        """Who moves: those that moved least; while others are out, the first of these."""
        if not self._out:
            everybody: Rows = np.flatnonzero(self._moves == self._moves.min())
            return everybody
        movable = self._movable
        return movable[[int(np.argmin(self._moves[movable]))]]

    def _tell(self, genotypes: Array, losses: Array) -> None:
        rows = np.array([self._row_of.pop(number) for number in self._heard])
        has_improved = self._rank(genotypes, losses)
        self._remember(rows, losses)
        n_moved = int((self._moves[rows] > 0).sum())
        self._n_in += n_moved
        self._has_improved |= has_improved and n_moved > 0
        if self._n_in >= len(self._moves):
            self._n_in -= len(self._moves)
            self._step *= self.settings.step_length_factor
            self._step = max(self._step, self.settings.minimum_step_length)
            self._n_stale = 0 if self._has_improved else self._n_stale + 1
            self._has_improved = False
            self._n_looked_at += 1

    # The first particles

    def _settle(self) -> Rows:
        """Places the particles; those whose losses nobody has told are to be asked for."""
        self._moves[:] = 0
        first = FirstPlaces(
            self.space,
            self._middle,
            self.context,
            self._known_places,
            self._known_losses,
            self._drawn_alike,
            self._rng,
        )
        self._places = first.of(len(self._moves))
        count = len(self._places)
        self._own, self._own_losses = self._places.copy(), np.full(count, np.inf)
        self._n_since = np.zeros(count, dtype=int)  # evaluations since the last better one
        known = [first.loss_known_of(place) for place in self._places]
        rows = np.array([row for row, loss in enumerate(known) if loss is not None], dtype=int)
        self._remember(rows, np.array([loss for loss in known if loss is not None]))
        self._keep(rows)
        self._velocities = self._first_velocities()
        return np.array([row for row, loss in enumerate(known) if loss is None], dtype=int)

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

    def _move(self, rows: Rows) -> None:
        """Moves particles by what is known."""
        if self.settings.initial_velocity == "best" and self._best:
            first = rows[self._moves[rows] == 0]
            self._velocities[first] = self._best[1] - self._places[first]
        self._moves[rows] += 1
        self._restart(rows)
        places = self._places[rows]
        pulls = Pulls(
            self._own[rows],
            places if self._best is None else self._best[1],
            places if self._worst is None else self._worst[1],
        )
        settings, shape = self.settings, (4, len(rows), self._width)
        strengths = np.array(
            [settings.inertia, settings.cognitive, settings.social, settings.repel]
        )
        draws = 1.0 - self._rng.random(shape) if settings.randomness else np.ones(shape)
        portions = shares(strengths, draws)[..., self._drawn_alike]
        self._places[rows], self._velocities[rows] = moved(
            places, self._velocities[rows], pulls, portions, self._step, self._drawn_alike
        )
        unproven = rows[~np.isfinite(self._own_losses[rows])]
        self._own[unproven] = self._places[unproven]

    def _restart(self, rows: Rows) -> None:
        """Puts stray particles back where they were best, at rest; anywhere without such."""
        if not self.settings.restart:
            return
        # Its best one counts, too.
        stray = rows[self._n_since[rows] + 1 >= self.settings.restart_patience]
        lost = stray[~np.isfinite(self._own_losses[stray])]
        self._own[lost] = anywhere(self.space, len(lost), self._rng)
        self._places[stray] = self._own[stray]
        self._velocities[stray] = 0.0
        self._n_since[stray] = 0

    def _evaluated(self, rows: Rows) -> Rows:
        """Which particles are asked for; none where the whole iteration is dropped."""
        settings = self.settings
        draws, moves = self._rng.random(len(rows) + 1), settings.max_iterations
        is_last = moves is not None and int(self._moves[rows].min()) >= moves
        if self.is_finished or is_last:  # the last move is looked at
            return rows
        if draws[0] < settings.iteration_dropout:
            return np.empty(0, dtype=int)
        kept: Rows = rows[draws[1:] >= settings.particle_dropout]
        if len(kept):
            self._n_in += len(rows) - len(kept)  # of an iteration that somebody is asked for
        return kept

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

"""Model merging of natural niches: an archive that shares documents, and mates that complement.

Source: Abrantes et al., Competition and attraction improve model fusion (2025),
arXiv:2508.16204 (M2N2).
Differs: genotypes are mated, not weights, so every child is a recipe; a linear mix where the
paper has SLERP, as a cube has no origin from which angles could be measured; choices and
integers come from either parent. Children are mutated, as the archive begins with no trained
networks but with points, between which mixing alone contracts. The best trial is never
dropped; where nobody is better than the first parent at anything, the second is drawn by
fitness (the original divides 0 by 0); what a document has to give is its task's weight divided by
the task's documents. Coordinates are cut from the first layers to the last, whatever their order
in the space. Without documents, ranks are the one resource.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from evomerge.foundations.errors import Problem
from evomerge.foundations.seeding import stream
from evomerge.genome.schema import Genome, OptimizerLink
from evomerge.nouns.evaluation import Evaluation
from evomerge.nouns.origin import proposed
from evomerge.nouns.space import Space
from evomerge.optimizers.base import Optimizer, OptimizerSettings
from evomerge.optimizers.focus import Focus
from evomerge.optimizers.niches.archive import (
    Member,
    Supply,
    attraction,
    least_fit,
    resources_of,
    shared_fitness,
    supply_of,
)

Array = NDArray[np.float64]

_MAX_DRAWS = 20  # attempts at a child that was not proposed before
_MUTATION = 0.3  # steps
_REDRAWN = 0.05  # of the choices and whole numbers


class NichesSettings(OptimizerSettings):
    """Settings of ``niches``.

    Attributes:
        archive_size: Trials that compete.
        n_startup_trials: Trials before the first child; trials made elsewhere count.
        alpha: How much a document that many solve loses in value; 0 shares nothing, as a plain
            genetic algorithm.
        mutation: Standard deviation of a child's coordinates, as a share of each range; a
            choice or a whole number is drawn anew as often. Without it 0.3 of each parameter's
            own step, which is a tenth of a unit for a weight, and one in twenty.
        spread: Standard deviation of half of the first points around the start, as a share of
            each range; without it one step. The others lie up to 12 steps away, more of them near.
        crossover: Off, a child is a mutated copy of one parent.
        split_point: Off, both parents are mixed in one proportion everywhere.
        matchmaker: Off, the second parent is drawn by fitness like the first.
    """

    archive_size: int = Field(default=20, ge=2)
    n_startup_trials: int = Field(default=10, ge=2, le=10_000)  # drawn all at once
    alpha: float = Field(default=1.0, ge=0, le=10)  # an exponent
    mutation: float | None = Field(default=None, ge=0, le=1)
    spread: float | None = Field(default=None, gt=0, le=1)
    crossover: bool = True
    split_point: bool = True
    matchmaker: bool = True


class Niches(Optimizer):
    """Keeps trials that solve what few others solve, and mates those that complement each other."""

    Settings: ClassVar[type[OptimizerSettings]] = NichesSettings
    needs_documents: bool = True
    asks_any_time: ClassVar[bool] = True
    with_others_out: ClassVar[str] = "another child of the archive as it is"
    takes_migrants: ClassVar[bool] = True
    settings: NichesSettings

    @classmethod
    def obstacles(cls, space: Space, genome: Genome, settings: Any) -> Iterator[Problem]:
        """Documents that are to be answered badly are no resource."""
        yield from super().obstacles(space, genome, settings)
        unwanted = [task.name for task in genome.tasks if task.weight < 0]
        if unwanted:
            yield Problem(
                f"{', '.join(unwanted)} has a negative weight, and here every document that is "
                "answered well is a gain",
                fix="Use optimizer: cma_es, or leave the task out.",
            )

    @classmethod
    def oddities(
        cls, space: Space, link: OptimizerLink, settings: Any, n_before: int
    ) -> Iterator[Problem]:
        """Children that are their parents."""
        yield from super().oddities(space, link, settings, n_before)
        if not settings.crossover and settings.mutation == 0:
            yield Problem(
                "neither crossover nor mutation: every child is its parent",
                "mutation",
                "Give it a value above 0, or leave crossover on.",
            )

    def _start(self) -> None:
        self._random = stream(self.seed, "optimizer")
        self._archive: list[Member] = []
        self._evaluations: Sequence[Evaluation | None] = ()
        self._first_points: list[Array] | None = None
        self._proposed: set[bytes] = set()
        places = self.context.places
        self._depths = np.arange(self.space.n_dims) if places is None else _ranks(places)

    def _see(self, evaluations: Sequence[Evaluation | None]) -> None:
        self._evaluations = evaluations

    def _learn(self, genotypes: Array, losses: Array) -> None:
        self._insert(genotypes, losses)

    def _tell(self, genotypes: Array, losses: Array) -> None:
        self._insert(genotypes, losses)

    def _insert(self, genotypes: Array, losses: Array) -> None:
        """Each trial competes for a place; one that failed has none."""
        seen, self._evaluations = self._evaluations or [None] * len(losses), ()
        for genotype, loss, evaluation in zip(genotypes, losses.tolist(), seen, strict=True):
            if np.isfinite(loss):
                self._archive.append(self._member(genotype, loss, evaluation))
                if len(self._archive) > self.settings.archive_size:
                    weights = self.context.brief.weights
                    del self._archive[least_fit(self._archive, self.settings.alpha, weights)]

    def _member(self, genotype: Array, loss: float, evaluation: Evaluation | None) -> Member:
        """A trial as the archive knows it, with the names of documents held once for all."""
        names, values = resources_of(evaluation or Evaluation(()))
        if self._archive and self._archive[-1].documents == names:
            names = self._archive[-1].documents
        return Member(genotype, loss, names, values)

    def _ask(self) -> Array:
        if self._first_points is None:
            n_points = self.settings.n_startup_trials - len(self._archive)
            self._first_points = first_points(self.space, n_points, self.settings, self._random)
        supply = supply_of(self._archive, self.context.brief.weights)
        proposals = [self._new(supply) for _ in range(self.population_size)]
        self.origins = tuple(proposed(label) for _, label in proposals)
        return np.array([genotype for genotype, _ in proposals])

    def _new(self, supply: Supply) -> tuple[Array, str]:
        """A genotype that was not proposed before, if one is found, and what to call it."""
        for _ in range(_MAX_DRAWS):
            genotype, label = self._proposal(supply)
            if genotype.tobytes() not in self._proposed:
                break
        self._proposed.add(genotype.tobytes())
        return genotype, label

    def _proposal(self, supply: Supply) -> tuple[Array, str]:
        if self._first_points:
            return self._first_points.pop(), "first point"
        if len(self._archive) < 2:
            drawn = self._random.random(self.space.n_dims)
            return snapped(Focus(self.space).meant(drawn), self.space), "random point"
        return self._child(supply), "child"

    def _child(self, supply: Supply) -> Array:
        fitness = shared_fitness(supply, self.settings.alpha)
        first = self._drawn(fitness)
        child = self._archive[first].genotype
        if self.settings.crossover:
            mate = self._archive[self._mate(first, supply, fitness)].genotype
            n_dims = self.space.n_dims
            split = self._random.integers(n_dims + 1) if self.settings.split_point else n_dims
            shares = shares_of(n_dims, int(split), self._random.random())[self._depths]
            mixed = shares * child + (1 - shares) * mate
            either = np.where(self._random.random(n_dims) < shares, child, mate)
            child = np.where(_is_continuous(self.space), mixed, either)
        return self._mutated(child)

    def _mate(self, first: int, supply: Supply, fitness: Array) -> int:
        """The second parent, another than the first."""
        wanted = np.zeros(len(fitness))
        if self.settings.matchmaker:
            wanted = attraction(supply, first, self.settings.alpha)
        if not wanted.any():
            wanted = np.where(np.arange(len(fitness)) == first, 0.0, fitness)
        if not wanted.any():
            wanted = (np.arange(len(fitness)) != first).astype(float)
        return self._drawn(wanted)

    def _drawn(self, wanted: Array) -> int:
        """An index, each as often as it is wanted; any where none is."""
        total = wanted.sum()
        return int(self._random.choice(len(wanted), p=wanted / total if total > 0 else None))

    def _mutated(self, genotype: Array) -> Array:
        given, n_dims = self.settings.mutation, self.space.n_dims
        sizes = _MUTATION * self.space.steps if given is None else np.full(n_dims, given)
        redrawn = _REDRAWN if given is None else given
        moved = genotype + sizes * self._random.standard_normal(n_dims)
        is_anew = self._random.random(n_dims) < redrawn
        anew = np.where(is_anew, self._random.random(n_dims), genotype)
        return snapped(np.where(_is_continuous(self.space), moved, anew), self.space)


def shares_of(n_dims: int, split: int, share: float) -> Array:
    """What the first parent gives along the model: ``share``, after the split what is left."""
    return np.where(np.arange(n_dims) < split, share, 1 - share)


def first_points(
    space: Space, count: int, settings: NichesSettings, random: np.random.Generator
) -> list[Array]:
    """Points to begin with: every other one around the start, the rest spread over the cube.

    Each coordinate of the spread ones is stratified, so that few points meet every choice, and
    denser near the start.
    """
    if count <= 0:
        return []
    strata = np.stack([random.permutation(count) for _ in range(space.n_dims)], axis=1)
    points = Focus(space).meant((strata + random.random((count, space.n_dims))) / count)
    spreads = space.steps if settings.spread is None else settings.spread
    near = space.initial + spreads * random.standard_normal((count, space.n_dims))
    around = (np.arange(count) % 2 == 1)[:, None] & _is_continuous(space)
    return [snapped(point, space) for point in np.where(around, near, points)]


def snapped(genotype: Array, space: Space) -> Array:
    """Within the cube, discrete coordinates in the middle of their stretch."""
    inside = np.clip(genotype, 0.0, 1.0)
    levels = np.array([n or 1 for n in space.levels])
    middles = (np.minimum((inside * levels).astype(int), levels - 1) + 0.5) / levels
    return np.where(_is_continuous(space), inside, middles)


def _ranks(places: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many coordinates lie before each, by their places; those of one place as they stand."""
    ranks = np.empty(len(places), dtype=np.intp)
    ranks[np.argsort(places, kind="stable")] = np.arange(len(places))
    return ranks


def _is_continuous(space: Space) -> NDArray[np.bool_]:
    return np.array([n is None for n in space.levels])

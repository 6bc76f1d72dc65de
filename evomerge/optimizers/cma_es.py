"""CMA-ES, and CatCMA with margin where coordinates are discrete.

Source: Hansen, The CMA evolution strategy: a tutorial (2016), arXiv:1604.00772; Hamano et al.,
CatCMA with margin (2025), arXiv:2504.07884; both as in the ``cmaes`` package.
Differs: the package is told ranks, not losses, so only the order of the losses matters; a
generation of equal losses (all failed, say) is not told at all; samples outside the cube are
clipped, not drawn again, which found optima near its faces 2 to 8 times closer and costs one
draw in any dimension; the start is the best trial made before the search (a parent, the uniform
average; a parent that is an optimum of its own then holds the search longer than a start halfway
to the middle would), with a smaller step where that is a seed or what another optimizer of a chain
found; the first step along a coordinate is the parameter's own, not a share of its range;
after convergence the search starts again from a mean drawn around the first, with the population
it had (IPOP would double it); two ordered levels count as a choice. With several workers
generations overlap: the distribution is updated by the first ``population_size`` outcomes that
are in, whichever distribution they were drawn from; what is out when the search starts again says
nothing of where it is then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from evomerge.foundations.seeding import stream, stream_seed
from evomerge.foundations.threads import one_thread
from evomerge.genome.misfit import MisfitError
from evomerge.nouns.space import Real, Space
from evomerge.optimizers.base import Optimizer, OptimizerSettings
from evomerge.optimizers.focus import Focus

if TYPE_CHECKING:
    from cmaes import CatCMAwM

_MARGIN = 0.3  # steps; a start this near a face of the cube would waste half of its samples
_NEARBY = 0.3  # steps of a search from the best of many trials: to leave it is to lose it
_MAX_FLAT = 3  # generations of equal losses in a row before the search moves elsewhere
_MAX_RESAMPLING = 0  # a sample outside the cube is clipped at once, see Differs


class CmaEsSettings(OptimizerSettings):
    """Settings of ``cma_es``.

    Attributes:
        sigma: First standard deviation, as a share of each range. Without it each parameter has
            its own: 0.1 for a weight, a density or ``t``, at most a sixth of
            the range; 0.3 of that where a seed, or what another optimizer of a chain found, is the
            place it begins at.
        step: The same in the parameters' own units instead, at most a sixth of each range:
            mergekit-evolve has a sixth of a unit.
    """

    sigma: float | None = Field(default=None, gt=0, le=1)
    step: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_of_them(self) -> CmaEsSettings:
        if self.sigma is not None and self.step is not None:
            raise MisfitError(
                "step beside sigma: both are the first step", "step", fix="Give one of them."
            )
        return self


class _Strategy(Protocol):
    """One descent, from a mean to convergence."""

    def ask(self) -> tuple[NDArray[np.float64], Any]:
        """A genotype of shape (n_dims,), in [0, 1], and what to tell of it."""

    def tell(self, samples: Sequence[Any], ranks: Sequence[int]) -> None:
        """Ranks of a population of what was asked, 0 the best, each once."""

    def should_stop(self) -> bool:
        """Whether it has converged."""


class CmaEs(Optimizer):
    """Samples from a normal distribution that learns the shape of the landscape."""

    Settings: ClassVar[type[OptimizerSettings]] = CmaEsSettings
    only_ranks_matter: ClassVar[bool] = True
    asks_any_time: ClassVar[bool] = True
    with_others_out: ClassVar[str] = (
        "another sample of the present distribution, which is updated as soon as a population of "
        "outcomes is in; who comes late counts in the next"
    )
    min_population_size: ClassVar[int] = 4  # below, the package divides by zero
    settings: CmaEsSettings

    @classmethod
    def default_population_size(cls, n_dims: int) -> int:
        """``4 + 3 ln n_dims``, rounded down."""
        return 4 + math.floor(3 * math.log(n_dims))

    def _start(self) -> None:
        self._strategy: _Strategy | None = None
        self._n_starts = 0
        self._n_flat = 0
        self._drawn: dict[int, Any] = {}  # number of a genotype that is out -> its sample
        self._in: list[tuple[Any, float]] = []  # samples and losses since the last update

    def prepare(self) -> None:
        """See :meth:`Optimizer.prepare`."""
        import cmaes  # noqa: F401  # loads scipy, which takes a second

    def _ask(self) -> NDArray[np.float64]:
        if self._strategy is None and self.context.begins_at_best:
            self._strategy = self._begin(self.space.initial, _NEARBY, margin=0.0)
        elif self._strategy is None:
            self._strategy = self._begin(self.space.initial)
        n_wanted = 1 if self._out else self.population_size - len(self._in)
        with one_thread():
            asked = [self._strategy.ask() for _ in range(n_wanted)]
        self._drawn.update(enumerate((sample for _, sample in asked), self._out.n_asked))
        return np.array([genotype for genotype, _ in asked])

    def _tell(self, genotypes: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
        for number, loss in zip(self._heard, losses.tolist(), strict=True):
            if number in self._drawn:  # else of a descent that is over
                self._in.append((self._drawn.pop(number), loss))
        while len(self._in) >= self.population_size:
            self._update()

    def _update(self) -> None:
        """The distribution learns of a population, or the search begins anew."""
        count = self.population_size
        generation, self._in = self._in[:count], self._in[count:]
        with one_thread():
            is_at_its_end = self._learned_all_of(generation)
        if is_at_its_end:
            self._n_flat = 0
            self._drawn, self._in = {}, []
            random = stream(self.seed, "optimizer", "restart", self._n_starts)
            elsewhere = Focus(self.space).meant(random.random(self.space.n_dims))
            self._strategy = self._begin(elsewhere)

    def _learned_all_of(self, generation: Sequence[tuple[Any, float]]) -> bool:
        """Tells the strategy; whether it is to begin anew."""
        assert self._strategy is not None  # tell follows ask
        losses = np.array([loss for _, loss in generation])
        if np.all(losses == losses[0]):
            self._n_flat += 1
        else:
            self._n_flat = 0
            ranks = np.argsort(np.argsort(losses, kind="stable")).tolist()
            self._strategy.tell([sample for sample, _ in generation], ranks)
        return self._n_flat == _MAX_FLAT or self._strategy.should_stop()

    def _begin(
        self, mean: NDArray[np.float64], share: float = 1.0, *, margin: float = _MARGIN
    ) -> _Strategy:
        """One descent, its first step ``share`` of each parameter's."""
        seed = stream_seed(self.seed, "optimizer", self._n_starts)
        self._n_starts += 1
        steps = self._steps
        mean = np.clip(mean, margin * steps, 1 - margin * steps)
        kind = _Continuous if all(n is None for n in self.space.levels) else _Mixed
        given = self.settings.sigma
        sigmas = share * steps if given is None else np.full(self.space.n_dims, given)
        return kind(self.space, mean, sigmas, self.population_size, seed)

    @property
    def _steps(self) -> NDArray[np.float64]:
        """First step along each coordinate, as a share of it; shape (n_dims,)."""
        step = self.settings.step
        if step is None:
            return self.space.steps
        scaled = (
            replace(p, scale=step) if isinstance(p, Real) and not p.log else p for p in self.space
        )
        return Space(tuple(scaled)).steps


class _Continuous:
    """CMA-ES where every coordinate is continuous."""

    def __init__(
        self,
        space: Space,
        mean: NDArray[np.float64],
        sigmas: NDArray[np.float64],
        population_size: int,
        seed: int,
    ) -> None:
        from cmaes import CMA  # loads scipy; a check draws no sample

        sigma, cov = _scaled(sigmas)
        self._cma = CMA(
            mean=mean,
            sigma=sigma,
            cov=cov,
            bounds=np.tile([0.0, 1.0], (space.n_dims, 1)),
            n_max_resampling=_MAX_RESAMPLING,
            seed=seed,
            population_size=population_size,
        )

    def ask(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        sample = self._cma.ask()
        return sample, sample

    def tell(self, samples: Sequence[NDArray[np.float64]], ranks: Sequence[int]) -> None:
        self._cma.tell(list(zip(samples, ranks, strict=True)))

    def should_stop(self) -> bool:
        return bool(self._cma.should_stop())


class _Mixed:
    """CatCMA with margin: continuous and ordered coordinates jointly normal, choices apart."""

    def __init__(
        self,
        space: Space,
        mean: NDArray[np.float64],
        sigmas: NDArray[np.float64],
        population_size: int,
        seed: int,
    ) -> None:
        from cmaes import CatCMAwM

        self._n_dims = space.n_dims
        levels = [n or 0 for n in space.levels]
        ordered = [
            n > 2 and is_ordered for n, is_ordered in zip(levels, space.is_ordered, strict=True)
        ]
        self._x = [i for i, n in enumerate(levels) if not n]
        self._z = [i for i, is_ordered in enumerate(ordered) if is_ordered]
        self._c = [i for i, n in enumerate(levels) if n and not ordered[i]]
        self._n_categories = np.array([levels[i] for i in self._c])
        normal = self._x + self._z
        sigma, cov = _scaled(sigmas[normal]) if normal else (float(sigmas.max()), None)
        self._cma = CatCMAwM(
            x_space=[[0.0, 1.0] for _ in self._x] or None,
            z_space=[_middles(levels[i]) for i in self._z] or None,
            c_space=[levels[i] for i in self._c] or None,
            population_size=population_size,
            mean=mean[normal] if normal else None,
            sigma=sigma,
            cov=cov,
            seed=seed,
        )

    def ask(self) -> tuple[NDArray[np.float64], CatCMAwM.Solution]:
        solution = self._cma.ask()
        return self._genotype(solution), solution

    def tell(self, samples: Sequence[CatCMAwM.Solution], ranks: Sequence[int]) -> None:
        self._cma.tell(list(zip(samples, map(float, ranks), strict=True)))

    def should_stop(self) -> bool:
        # Without a normal part the package has no criterion and warns.
        return bool(self._x or self._z) and bool(self._cma.should_stop())

    def _genotype(self, solution: CatCMAwM.Solution) -> NDArray[np.float64]:
        genotype = np.empty(self._n_dims)
        if solution.x is not None:
            genotype[self._x] = solution.x
        if solution.z is not None:
            genotype[self._z] = solution.z
        if solution.c is not None:
            genotype[self._c] = (solution.c.argmax(axis=1) + 0.5) / self._n_categories
        return genotype


def _scaled(sigmas: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Standard deviations as the package wants them: the largest, and a covariance of its units."""
    largest = float(sigmas.max())
    return largest, np.diag((sigmas / largest) ** 2)


def _middles(n_levels: int) -> list[float]:
    return [(index + 0.5) / n_levels for index in range(n_levels)]

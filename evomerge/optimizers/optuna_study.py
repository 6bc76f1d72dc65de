"""What the optimizers backed by Optuna share: an in-memory study behind ask and tell.

Differs: the search space is known before the first trial, as is the direction; the sampler sees
the space from where the search begins, so that it looks near first (``focus.py``); nothing is
stored outside memory, and Optuna's log level is the user's again after every call.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import Trial, create_trial

from evomerge.foundations.seeding import stream_seed
from evomerge.foundations.threads import one_thread
from evomerge.nouns.space import Space
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.focus import Focus

Array = NDArray[np.float64]


class OptunaOptimizer(Optimizer):
    """Asks an Optuna sampler; subclasses say which in ``_sampler``.

    A continuous coordinate is a float in [0, 1], its place in the view, an ordered discrete one
    the index of its level, an unordered one a category; the genotype holds the middle of the
    level's stretch. The study begins with the first ``ask``, when the start is known. Trials that
    are out are running ones to the sampler: it takes them for poor ones (a constant liar), so that
    it proposes something else, if it looks at losses at all.
    """

    @abstractmethod
    def _sampler(self, seed: int) -> BaseSampler:
        """The sampler, with all its randomness from ``seed``."""

    def _start(self) -> None:
        self._levels = self.space.levels
        self._distributions = distributions_of(self.space)
        self._trials: dict[int, Trial] = {}  # number of a genotype that is out -> its trial
        self._study: optuna.Study | None = None
        self._learned: list[tuple[Array, Array]] = []  # before the study began

    def _ask(self) -> Array:
        study = self._study or self._begin()
        with inside_optuna():
            # A copy: Optuna keeps what it is given.
            trials = [study.ask(dict(self._distributions)) for _ in range(self._n_wanted)]
        self._trials.update(enumerate(trials, self._out.n_asked))
        places = np.array([self._place(trial.params) for trial in trials])
        asked: Array = np.clip(self._focus.meant(places), 0.0, 1.0)
        return asked

    @property
    def _n_wanted(self) -> int:
        """Genotypes of the next ask."""
        return self.population_size

    def _begin(self) -> optuna.Study:
        self._focus = Focus(self.space)
        with inside_optuna():
            self._study = optuna.create_study(
                sampler=self._sampler(stream_seed(self.seed, "optimizer")),
                directions=["minimize"] * self.n_objectives,
            )
        for genotypes, losses in self._learned:
            self._add(self._study, genotypes, losses)
        return self._study

    def _tell(self, genotypes: Array, losses: Array) -> None:
        assert self._study is not None  # tell follows ask
        rows = losses.reshape(len(losses), -1).tolist()
        with inside_optuna():
            for number, row in zip(self._heard, rows, strict=True):
                self._study.tell(self._trials.pop(number), row)

    def _learn(self, genotypes: Array, losses: Array) -> None:
        if self._study is None:
            self._learned.append((genotypes, losses))
        else:
            self._add(self._study, genotypes, losses)

    def _add(self, study: optuna.Study, genotypes: Array, losses: Array) -> None:
        """Tells the sampler of trials made elsewhere; of those out of view nothing can be said."""
        held = self._focus.holds(genotypes)
        rows = losses.reshape(len(losses), -1)[held].tolist()
        for place, row in zip(self._focus.seen(genotypes[held]), rows, strict=True):
            study.add_trial(
                create_trial(
                    params=self._params(place),
                    distributions=dict(self._distributions),
                    values=row,
                    system_attrs=self._foreign_attributes(),
                )
            )

    def _foreign_attributes(self) -> dict[str, Any]:
        """What the sampler must find on a trial made elsewhere in order to use it."""
        return {}

    def _place(self, params: Mapping[str, Any]) -> list[float]:
        return [
            params[name] if n_levels is None else (params[name] + 0.5) / n_levels
            for name, n_levels in zip(self._distributions, self._levels, strict=True)
        ]

    def _params(self, place: Array) -> dict[str, Any]:
        return {
            name: float(u) if n_levels is None else min(int(u * n_levels), n_levels - 1)
            for name, n_levels, u in zip(self._distributions, self._levels, place, strict=True)
        }


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's view of the unit cube, one distribution per coordinate, in order."""
    return {
        f"x{index:05d}": _distribution(n_levels, is_ordered)
        for index, (n_levels, is_ordered) in enumerate(
            zip(space.levels, space.is_ordered, strict=True)
        )
    }


def _distribution(n_levels: int | None, is_ordered: bool) -> BaseDistribution:
    if n_levels is None:
        return FloatDistribution(0.0, 1.0)
    if is_ordered:
        return IntDistribution(0, n_levels - 1)
    return CategoricalDistribution(tuple(range(n_levels)))


@contextmanager
def inside_optuna() -> Iterator[None]:
    """One thread, without a line per trial and notes on failed trials and new features."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings(), one_thread():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Losses of inf are failed trials, which the Gaussian process clips and says so.
            warnings.filterwarnings("ignore", message="Clip non-finite values")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)

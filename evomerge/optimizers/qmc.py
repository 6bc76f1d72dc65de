"""Quasi-Monte Carlo: a scrambled Sobol sequence, which fills the cube more evenly than chance.

Source: Sobol (1967), scrambled as in Owen (1998); Optuna's ``QMCSampler``.
Differs: the first trial is the sequence's own, not a random one.
"""

from __future__ import annotations

from typing import Any, ClassVar

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, QMCSampler

from evomerge.optimizers.optuna_study import OptunaOptimizer, distributions_of


class QuasiMonteCarlo(OptunaOptimizer):
    """Covers what lies around the best baseline evenly, whatever the losses say."""

    is_adaptive: bool = False
    asks_any_time: ClassVar[bool] = True
    with_others_out: ClassVar[str] = "the next point: no outcome changes it"
    only_ranks_matter: ClassVar[bool] = True

    def _sampler(self, seed: int) -> BaseSampler:
        return _SobolSampler(distributions_of(self.space), seed)


class _SobolSampler(QMCSampler):
    """Knows its space from the start; Optuna's learns it from the first finished trial."""

    def __init__(self, distributions: dict[str, BaseDistribution], seed: int) -> None:
        super().__init__(scramble=True, seed=seed)
        self._distributions = distributions

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        return self._distributions

"""Tree-structured Parzen estimator.

Source: Bergstra et al., Algorithms for hyper-parameter optimization (2011); Watanabe,
Tree-structured Parzen estimator (2023), arXiv:2304.11127; Optuna's ``TPESampler`` with its
defaults.
"""

from __future__ import annotations

from typing import ClassVar

from optuna.samplers import BaseSampler, TPESampler
from pydantic import Field

from evomerge.optimizers.base import OptimizerSettings
from evomerge.optimizers.optuna_study import OptunaOptimizer


class TpeSettings(OptimizerSettings):
    """Settings of ``tpe``.

    Attributes:
        n_startup_trials: Trials before the model is used; trials made elsewhere count.
    """

    n_startup_trials: int = Field(default=10, ge=1)


class Tpe(OptunaOptimizer):
    """Samples where good trials are dense and bad ones are not."""

    Settings: ClassVar[type[OptimizerSettings]] = TpeSettings
    only_ranks_matter: ClassVar[bool] = True
    asks_any_time: ClassVar[bool] = True
    with_others_out: ClassVar[str] = "another point; those that are out pass for poor ones"
    takes_migrants: ClassVar[bool] = True
    settings: TpeSettings

    def _sampler(self, seed: int) -> BaseSampler:
        return TPESampler(seed=seed, n_startup_trials=self.settings.n_startup_trials)

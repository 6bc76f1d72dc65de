"""Bayesian optimization: a Gaussian process and expected improvement.

Source: Optuna's ``GPSampler`` (Matern 5/2 kernel with a length scale per coordinate, log expected
improvement: Ament et al., Unexpected improvements (2023), arXiv:2310.20708).
Differs: five trials before the model is used where Optuna takes ten: budgets are small, and
the baselines count too.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar

from optuna import create_study
from optuna.samplers import BaseSampler, GPSampler
from pydantic import Field

from evomerge.optimizers.base import OptimizerSettings
from evomerge.optimizers.optuna_study import OptunaOptimizer, inside_optuna


class GaussianProcessSettings(OptimizerSettings):
    """Settings of ``gp``.

    Attributes:
        n_startup_trials: Trials before the model is used; trials made elsewhere count.
    """

    n_startup_trials: int = Field(default=5, ge=1)


class GaussianProcess(OptunaOptimizer):
    """Models the loss and asks where improvement is most likely.

    Its time per trial grows with the trials: for budgets up to about 150 and few coordinates.
    """

    Settings: ClassVar[type[OptimizerSettings]] = GaussianProcessSettings
    proving_trials: ClassVar[int] = 15
    asks_any_time: ClassVar[bool] = True
    with_others_out: ClassVar[str] = (
        "another point, before a slot is free; those that are out pass for poor ones"
    )
    takes_migrants: ClassVar[bool] = True
    asks_ahead: bool = True  # each ask fits a model
    settings: GaussianProcessSettings

    def prepare(self) -> None:
        """See :meth:`Optimizer.prepare`."""
        _fit_a_first_model()

    def _sampler(self, seed: int) -> BaseSampler:
        return GPSampler(
            seed=seed,
            n_startup_trials=self.settings.n_startup_trials,
            warn_independent_sampling=False,
        )


@cache
def _fit_a_first_model() -> None:
    """Fits one to two numbers: Optuna imports torch and more when it is asked for the first."""
    with inside_optuna():
        study = create_study(sampler=GPSampler(seed=0, n_startup_trials=1))
        for _ in range(2):
            trial = study.ask()
            study.tell(trial, trial.suggest_float("x", 0.0, 1.0))
        study.ask().suggest_float("x", 0.0, 1.0)

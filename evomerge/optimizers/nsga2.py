"""NSGA-II, for one loss or several.

Source: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II (2002), IEEE
TEC 6(2); Optuna's ``NSGAIISampler``.
Differs: a population of 8 to about 20 where Optuna takes 50, as budgets are small; simulated
binary crossover, as in the paper, where Optuna swaps coordinates; a mutated coordinate is drawn
anew, as in Optuna; trials made elsewhere compete with the first generation to become parents.
With several workers generations overlap as Optuna's do: a child belongs to the first generation
of which fewer than a population are over, so that one may grow by those that were out.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.samplers.nsgaii import SBXCrossover

from evomerge.optimizers.optuna_study import OptunaOptimizer


class Nsga2(OptunaOptimizer):
    """A genetic algorithm that keeps the trials no other trial beats in every loss."""

    multi_objective: ClassVar[bool] = True
    asks_any_time: ClassVar[bool] = True
    with_others_out: ClassVar[str] = (
        "another child of the parents there are; these change when a population of the newest "
        "generation is over, and who comes late competes in his own"
    )
    min_population_size: ClassVar[int] = 2

    @classmethod
    def default_population_size(cls, n_dims: int) -> int:
        """``4 + 3 ln n_dims`` rounded up to an even number, at least 8."""
        return max(8, 2 * math.ceil((4 + 3 * math.log(n_dims)) / 2))

    @property
    def _n_wanted(self) -> int:
        """A generation; while some is out, one child for the slot that is free."""
        return 1 if self._out else self.population_size

    def _sampler(self, seed: int) -> BaseSampler:
        return NSGAIISampler(
            population_size=self.population_size,
            crossover=SBXCrossover(),
            seed=seed,
        )

    def _foreign_attributes(self) -> dict[str, Any]:
        # Optuna's samplers leave added trials out of every generation; this mark, the one it puts
        # on its own trials, lets them in.
        return {NSGAIISampler._get_generation_key(): 0}

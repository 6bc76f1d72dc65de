"""Uniform random search: the baseline every other optimizer has to beat.

Source: Bergstra and Bengio, Random search for hyper-parameter optimization (2012), JMLR 13.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.seeding import stream
from evomerge.optimizers.base import Optimizer


class RandomSearch(Optimizer):
    """Draws every coordinate uniformly, whatever the losses say."""

    is_adaptive: bool = False
    asks_any_time: ClassVar[bool] = True
    with_others_out: ClassVar[str] = "the next point: no outcome changes it"
    only_ranks_matter: ClassVar[bool] = True

    def _start(self) -> None:
        self._rng = stream(self.seed, "optimizer")

    def _ask(self) -> NDArray[np.float64]:
        return self._rng.random((self.population_size, self.space.n_dims))

    def _tell(self, genotypes: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
        pass

"""The unit cube as seen from where a search begins: what lies near is wide, what lies far narrow.

An optimizer that looks everywhere alike looks mostly where no good value is, the more so the
wider the ranges are. In the view a coordinate is the distribution function of a logistic
distribution around the start, as wide as the coordinate's step says and cut off at its ends: a
place drawn uniformly in the view lies near the start as a rule. The view ends some steps from the
start, as far as from one model to the next: an optimizer that tries the corners of what it sees, as
Gaussian processes do, would else try the corners of the box. Choices and whole numbers are as they
were.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evomerge.nouns.space import Real, Space

Array = NDArray[np.float64]

_WIDTH = 2.0  # steps; the standard deviation is 1.8 times that
_REACH = 12.0  # steps; ten lead from one model to another
_ROUNDING = 1e-9


class Focus:
    """Genotypes <-> their places in the view; both in [0, 1].

    Args:
        space: Where a search begins, and the step of each coordinate.
    """

    def __init__(self, space: Space) -> None:
        self._is_real = np.array([isinstance(p, Real) for p in space])
        self._start = space.initial
        self._width = _WIDTH * space.steps
        reach = _REACH * space.steps
        self._first = np.clip(self._start - reach, 0.0, 1.0)
        self._last = np.clip(self._start + reach, 0.0, 1.0)
        self._low, self._high = self._below(self._first), self._below(self._last)

    def holds(self, genotypes: Array) -> NDArray[np.bool_]:
        """Which genotypes lie in the view, shape (...)."""
        inside = (genotypes >= self._first - _ROUNDING) & (genotypes <= self._last + _ROUNDING)
        held: NDArray[np.bool_] = (inside | ~self._is_real).all(axis=-1)
        return held

    def seen(self, genotypes: Array) -> Array:
        """Genotypes in the view -> their places, shape (..., n_dims)."""
        places = (self._below(genotypes) - self._low) / (self._high - self._low)
        return np.where(self._is_real, np.clip(places, 0.0, 1.0), genotypes)

    def meant(self, places: Array) -> Array:
        """Places in the view -> genotypes, shape (..., n_dims)."""
        below = self._low + places * (self._high - self._low)
        genotypes = self._start + self._width * np.log(below / (1.0 - below))
        return np.where(self._is_real, np.clip(genotypes, self._first, self._last), places)

    def _below(self, genotypes: Array) -> Array:
        """Share of the whole distribution that lies below."""
        below: Array = 1.0 / (1.0 + np.exp((self._start - genotypes) / self._width))
        return below

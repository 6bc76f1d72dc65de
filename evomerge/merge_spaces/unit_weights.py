"""How the weights of several sources are searched without a dead direction.

Where a method divides by the sum of the weights, their common scale changes nothing: n weights
are then n - 1 coordinates. Everywhere else each weight is a coordinate of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.genome.methods import WEIGHT_SCALE
from evomerge.nouns.space import Real

BEYOND = (-1.0, 2.0)  # inside it lies every sum of two models that Model Swarms draws at first


@dataclass(frozen=True)
class Shares:
    """Weights >= 0 that sum to 1.

    Coordinate k says how the weight that sources 0..k-1 left is split between source k and
    those after it; coordinates drawn uniformly give weights uniform on the simplex.

    Args:
        names: One per source but the last.
    """

    names: tuple[str, ...]

    @property
    def parameters(self) -> tuple[Real, ...]:
        """One coordinate per source but the last, starting at equal weights."""
        n = len(self.names) + 1
        equal = self.encode([1 / n] * n)
        return tuple(
            Real(name, 0.0, 1.0, initial=min(max(value, 0.0), 1.0))
            for name, value in zip(self.names, equal, strict=True)
        )

    def decode(self, values: Sequence[float]) -> list[float]:
        """Coordinates -> weights that sum to 1."""
        weights, left = [], 1.0
        for index, value in enumerate(values):
            share = 1.0 - (1.0 - value) ** (1.0 / (len(values) - index))
            weights.append(left * share)
            left -= weights[-1]
        return [*weights, max(left, 0.0)]

    def encode(self, weights: Sequence[float]) -> list[float]:
        """Weights, scaled to sum 1 -> coordinates."""
        total = sum(weights)
        values, left = [], 1.0
        for index, weight in enumerate(weights[:-1]):
            share = min(weight / total / left, 1.0) if left > 1e-12 else 0.5
            values.append(1.0 - (1.0 - share) ** (len(weights) - 1 - index))
            left -= weight / total
        return values


@dataclass(frozen=True)
class Affine:
    """Weights of either sign that sum to 1; the last follows from the others.

    Args:
        names: One per source but the last.
        low: Smallest weight of these.
        high: Largest weight of these.
    """

    names: tuple[str, ...]
    low: float
    high: float

    @property
    def parameters(self) -> tuple[Real, ...]:
        """One coordinate per source but the last, starting at equal weights."""
        return tuple(
            Real(
                name,
                self.low,
                self.high,
                initial=1 / (len(self.names) + 1),
                scale=WEIGHT_SCALE,
            )
            for name in self.names
        )

    def decode(self, values: Sequence[float]) -> list[float]:
        """Coordinates -> weights that sum to 1."""
        return [*values, 1.0 - sum(values)]

    def encode(self, weights: Sequence[float]) -> list[float]:
        """Weights, scaled to sum 1 -> coordinates."""
        total = sum(weights)
        return [weight / total for weight in weights[:-1]]

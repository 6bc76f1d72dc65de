"""A trainer without a model: it descends the sphere that the contract suites minimise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evomerge.optimizers.context import Lesson
from evomerge.seeding import stream

AT = 0.3  # the least of the sphere, in every coordinate
RATE = 0.3


class ToyTrainer:
    """Gradient descent with a little noise of its own.

    Args:
        settings: Not looked at.

    Attributes:
        epochs: Indices of the epochs it was asked for.
    """

    def __init__(self, settings: object = None) -> None:
        self.epochs: list[int] = []

    def epoch(
        self, index: int, genotype: NDArray[np.float64], state: bytes | None, seed: int
    ) -> Lesson:
        """One step."""
        self.epochs.append(index)
        here = genotype if state is None else np.frombuffer(state)
        noise = 1e-3 * stream(seed, "noise").standard_normal(len(here))
        there = np.clip(here - RATE * 2 * (here - AT) + noise, 0.0, 1.0)
        return Lesson(there, there.tobytes(), {"sphere": float(((there - AT) ** 2).sum())})

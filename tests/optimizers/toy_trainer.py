"""Trainers without a model: they descend the formulas that the contract suites minimise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.seeding import stream
from evomerge.optimizers.gradient.gradient_settings import GradientSettings
from evomerge.optimizers.search_context import Lesson
from evomerge.training.descent import Descent, State

Slope = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # the derivative at one place

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
        self,
        index: int,
        genotype: NDArray[np.float64],
        state: bytes | None,
        seed: int,
        pace: float = 1.0,
    ) -> Lesson:
        """One step."""
        self.epochs.append(index)
        here = genotype if state is None else np.frombuffer(state)
        noise = 1e-3 * stream(seed, "noise").standard_normal(len(here))
        there = np.clip(here - pace * RATE * 2 * (here - AT) + noise, 0.0, 1.0)
        return Lesson(there, there.tobytes(), {"sphere": float(((there - AT) ** 2).sum())})


class FormulaTrainer:
    """The descent of the real trainer, with the settings of the optimizer, down a formula.

    Args:
        slope: Of the formula.
        settings: The optimizer's.
    """

    N_STEPS = 20  # of an epoch

    def __init__(self, slope: Slope, settings: GradientSettings) -> None:
        self.slope, self.settings = slope, settings
        self.descent = Descent.of(settings)

    def epoch(
        self,
        index: int,
        genotype: NDArray[np.float64],
        state: bytes | None,
        seed: int,
        pace: float = 1.0,
    ) -> Lesson:
        """So many steps of AdamW."""
        now = State.begin(genotype.copy()) if state is None else State.from_bytes(state)
        n_steps = self.settings.epochs * self.N_STEPS
        for number in range(self.N_STEPS):
            rate = pace * self.descent.rate(index * self.N_STEPS + number, n_steps)
            moved = self.descent.step(now, self.slope(now.values), rate)
            now = replace(moved, values=np.clip(moved.values, 0.0, 1.0))
        return Lesson(now.values, now.to_bytes(), {})

"""Candidate, outcome, trial: one proposal, what came of it, and the two together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.origin import Origin, OriginKind
from evomerge.recipe.plain import Recipe

Genotype = NDArray[np.float64]  # shape (n_dims,), in [0, 1]


@dataclass(frozen=True)
class Candidate:
    """A proposal, not yet judged.

    Attributes:
        trial_id: Position in the run, from 0.
        origin: Who proposed it.
        recipe: The mergekit recipe it stands for.
        genotype: Coordinates in the space; None for a baseline that no point of the
            space describes.
        point: Parameter name -> value; empty where ``genotype`` is None.
    """

    trial_id: int
    origin: Origin
    recipe: Recipe
    genotype: Genotype | None = None
    point: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the optimizer calls it, empty where it has no name."""
        return "" if self.is_baseline else self.origin.name

    @property
    def is_baseline(self) -> bool:
        """Whether it was there before the search began."""
        return self.origin.is_baseline

    @property
    def is_seed(self) -> bool:
        """Whether an earlier search found it."""
        return self.origin.kind is OriginKind.SEED

    @property
    def is_fixed_recipe(self) -> bool:
        """Whether it is what one would have tried without a search, beside models and average."""
        return self.origin.kind is OriginKind.FIXED


@dataclass(frozen=True)
class Trial:
    """A candidate and its outcome: one line of history.

    Attributes:
        candidate: What was tried.
        outcome: What came of it.
        idle: Seconds that slots stood without a job, all together, since the trial before it was
            recorded; of runs with several workers.
        elapsed: Seconds of the search since the trial before it was recorded, or since the run
            went on; of runs with several workers, where those of trials overlap.
    """

    candidate: Candidate
    outcome: Outcome
    idle: float = 0.0
    elapsed: float | None = None

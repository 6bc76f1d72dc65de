"""What a score is worth that was chosen because it is high: empirical Bayes.

The best of many scores is high in part because its noise is: the winner's curse. How much, the
spread of all scores tells. Each is its candidate's quality and noise of a known variance,

    s = q + e,   e ~ N(0, v),

and the qualities have a distribution that all scores together show: weights on a grid that EM
makes likely (Laird 1978), from equal ones in a few steps only, so that it stays smooth. What a
score s is worth is the mean of q given s under it. Where all candidates are equally good every
score shrinks to their mean; one far above the others stays where it is. A normal distribution
(James and Stein 1961) would be simpler, but what a search tries has a long lower tail: that
would stretch it, and shrink next to nothing. For the same reason the grid ends some way below the
best: a model that is broken scores so far below that all others would share one place.

Source: Robbins, An Empirical Bayes Approach to Statistics (1956); Laird, Nonparametric Maximum
Likelihood Estimation of a Mixing Distribution (1978); Jiang and Zhang, General Maximum
Likelihood Empirical Bayes Estimation of Normal Means (2009); Efron, Tweedie's Formula and
Selection Bias (2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_GRID = 80  # places that a quality can have, from the highest score downwards
_REACH = 12  # standard deviations of the noise that they reach: less than a sixth of one apart
_STEPS = 20  # of EM; many more make the distribution a few spikes that it is too sure of
_LEAST_VARIANCE = 1e-12  # documents may all be answered alike


@dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    Attributes:
        value: The number.
        variance: Of its error, above 0.
    """

    value: float
    variance: float


def weighed(estimates: Sequence[Estimate]) -> Estimate:
    """Independent estimates of one number as one, each with the weight 1 / variance.

    Args:
        estimates: At least one.
    """
    precisions = np.array([1 / max(one.variance, _LEAST_VARIANCE) for one in estimates])
    values = np.array([one.value for one in estimates])
    return Estimate(float(precisions @ values / precisions.sum()), float(1 / precisions.sum()))


def shrunken(chosen: Sequence[float], scores: Values, variance: float) -> list[Estimate]:
    """What some of the scores are worth.

    Args:
        chosen: Those wanted; one below the grid keeps its distance to it.
        scores: Of all candidates, the chosen ones among them; shape (n,), n >= 1.
        variance: Of the noise that each score has for itself.
    """
    variance = max(variance, _LEAST_VARIANCE)
    noise, top = variance**0.5, float(scores.max())
    with np.errstate(over="ignore"):  # a stranger's numbers: what overflows lies below the grid
        heights = ((scores - top) / noise).clip(-_REACH)  # in units of the noise, from the top
        wanted = (np.array(chosen) - top) / noise
    grid = np.linspace(heights.min(), 0.0, _GRID)
    kept = wanted.clip(grid[0])
    likelihood = _likelihood(heights, grid)
    weights = np.full(_GRID, 1 / _GRID)
    for _ in range(_STEPS):
        weights = _shares(likelihood * weights).mean(axis=0)
    shares = _shares(_likelihood(kept, grid) * weights)
    means = shares @ grid
    spreads = (shares * (grid - means[:, None]) ** 2).sum(axis=1)
    # Were all equally good, their mean would still not be known better than this.
    least = 1 / len(scores)
    return [
        Estimate(score + noise * shift, variance * max(spread, least))
        for score, shift, spread in zip(
            chosen, (means - kept).tolist(), spreads.tolist(), strict=True
        )
    ]


def _likelihood(heights: Values, grid: Values) -> Values:
    """Shape (n, grid), each row up to a factor."""
    distances = (heights[:, None] - grid) ** 2
    nearest: Values = distances - distances.min(axis=1, keepdims=True)  # none of them underflows
    return np.exp(-nearest / 2)


def _shares(rows: Values) -> Values:
    shares: Values = rows / rows.sum(axis=1, keepdims=True)
    return shares

"""What is chosen because its score is high is worth less, and how much is told."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.run.shrinkage import Estimate, shrunken, weighed

NOISE = 0.01


def alike(random, n):
    return np.zeros(n)


def spread(random, n):
    return random.normal(0, NOISE, n)


def plateau(random, n):
    """Half are next to the best, half are far below: what a search tries."""
    near = -np.abs(random.normal(0, 0.3 * NOISE, n))
    return near - np.where(random.random(n) < 0.5, random.exponential(10 * NOISE, n), 0)


def climb(random, n):
    return -15 * NOISE * np.exp(-np.arange(n) / 15) + random.normal(0, NOISE / 2, n)


def test_independent_estimates_count_by_their_precision():
    both = weighed([Estimate(1.0, 0.01), Estimate(4.0, 0.02)])
    assert (both.value, both.variance) == pytest.approx((2.0, 0.02 / 3))
    assert weighed([Estimate(1.0, 0.0), Estimate(4.0, 0.02)]).value == pytest.approx(1.0)


def test_a_normal_prior_gives_what_james_and_stein_would_give():
    scores = np.random.default_rng(0).normal(0, np.sqrt(2) * NOISE, 4_000)
    found = shrunken([NOISE, -2 * NOISE, 0.0], scores, NOISE**2)
    assert [one.value / NOISE for one in found] == pytest.approx([0.5, -1.0, 0.0], abs=0.1)
    assert [one.variance / NOISE**2 for one in found] == pytest.approx([0.5] * 3, abs=0.15)


def test_one_far_above_the_others_stays_where_it_is():
    scores = np.append(np.random.default_rng(0).normal(0, NOISE, 60), 1.0)
    (found,) = shrunken([1.0], scores, NOISE**2)
    assert found.value == pytest.approx(1.0, abs=NOISE)


def test_order_stays_and_a_single_look_is_not_shrunken():
    scores = np.random.default_rng(1).normal(0, NOISE, 40)
    scores[:3] = -1.0, -0.5, -0.1  # below the grid, and at its end
    values = [one.value for one in shrunken(sorted(scores), scores, NOISE**2)]
    assert (np.diff(values) > -1e-12).all()
    (alone,) = shrunken([0.7], np.array([0.7]), NOISE**2)
    assert (alone.value, alone.variance) == pytest.approx((0.7, NOISE**2))


@pytest.mark.parametrize("scores", [np.full(5, 0.5), np.array([0.0, 1e9, 0.5])])
def test_scores_without_spread_or_beyond_measure_are_no_obstacle(scores):
    for variance in (0.0, NOISE**2):
        (found,) = shrunken([0.5], scores, variance)
        assert found.value == pytest.approx(0.5, abs=NOISE)
        assert found.variance > 0


@pytest.mark.parametrize("outlier", [-3.0, -1.0, 0.0])
@pytest.mark.parametrize("noise", [0.01, 0.005, 0.003])
def test_a_broken_model_far_below_does_not_keep_the_others_from_shrinking(outlier, noise):
    random = np.random.default_rng(0)
    left, raw = [], []
    for _ in range(60):
        quality = np.append(0.6 - np.abs(random.normal(0, 0.3 * noise, 60)), outlier)
        scores = quality + random.normal(0, noise, 61)
        best = int(scores.argmax())
        found, broken = shrunken([scores[best], scores[-1]], scores, noise**2)
        left.append(found.value - quality[best])
        raw.append(scores[best] - quality[best])
        assert broken.value == pytest.approx(scores[-1], abs=noise)
    assert np.mean(raw) > 1.5 * noise
    assert abs(np.mean(left)) < 0.25 * np.mean(raw)


@pytest.mark.parametrize("truth", [alike, spread, plateau, climb])
@pytest.mark.parametrize("n", [25, 60, 200])
def test_the_best_of_many_is_worth_what_is_told(truth, n):
    random = np.random.default_rng(n)
    errors, raw, inside = [], [], []
    for _ in range(150):
        quality = truth(random, n)
        scores = quality + random.normal(0, NOISE, n)
        best = int(scores.argmax())
        (found,) = shrunken([scores[best]], scores, NOISE**2)
        errors.append(found.value - quality[best])
        raw.append(scores[best] - quality[best])
        inside.append(abs(errors[-1]) < 2 * found.variance**0.5)
    assert np.mean(raw) > NOISE  # the winner's curse
    assert abs(np.mean(errors)) < 0.6 * NOISE
    assert abs(np.mean(errors)) < 0.4 * np.mean(raw)
    assert np.sqrt(np.mean(np.square(errors))) < 0.7 * np.sqrt(np.mean(np.square(raw)))
    assert np.mean(inside) > 0.65

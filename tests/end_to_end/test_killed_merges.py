"""Nothing finished is lost: with real merges and forward passes."""

from __future__ import annotations

import random

import pytest

from tests.killed import history, killed_run, real_run, whole_run


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_real_run_killed_at_random_moments_becomes_the_uninterrupted_run(
    workplace, seed, monkeypatch
):
    """Moments inside real merges and forward passes; ten kills for each of five seeds."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    n_kills = 10
    n_calls = whole_run(real_run, workplace / "whole", "genome.yml")
    expected = history(workplace / "whole")
    rng = random.Random(seed)
    folder = workplace / "run-0"
    for n_killed in range(1, n_kills + 1):
        if not killed_run(rng.randrange(1, n_calls), real_run, folder, "genome.yml"):
            assert history(folder) == expected
            folder = workplace / f"run-{n_killed}"
    assert not killed_run(10 * n_calls, real_run, folder, "genome.yml")
    assert history(folder) == expected

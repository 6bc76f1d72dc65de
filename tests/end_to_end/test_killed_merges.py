"""Nothing finished is lost: with real merges and forward passes."""

from __future__ import annotations

import pytest

from tests.killed import killed_at_random, real_run


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_real_run_killed_at_random_moments_becomes_the_uninterrupted_run(
    workplace, seed, monkeypatch
):
    """Moments inside real merges and forward passes; ten kills for each of five seeds."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert killed_at_random(workplace, 10, seed, real_run, "genome.yml") == 10

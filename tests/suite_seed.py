"""The seed of the whole suite; imports nothing heavy, so that tests of small things start at once.

``pytest --model-seed 1`` asks of other weights what holds for any.
"""

from __future__ import annotations

SUITE_SEED = 0  # set by pytest --model-seed


def of_suite(seed: int) -> int:
    """A seed of a test, moved by the suite's own."""
    return seed + 1000 * SUITE_SEED

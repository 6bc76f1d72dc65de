"""DELLA merges only where density and epsilon leave room for each other."""

from __future__ import annotations

from collections.abc import Iterable

from evomerge.errors import GenomeError

_EPSILON = 0.15  # mergekit's, where nobody gives one

Span = tuple[float, float]


def check_della(densities: Iterable[Span], epsilons: Iterable[Span]) -> None:
    """Refuses a space with points that DELLA cannot merge.

    It needs 0 < density - epsilon and density + epsilon < 1, or a density of 1, which drops
    nothing.

    Args:
        densities: Smallest and largest value of every density, fixed ones included.
        epsilons: Likewise.

    Raises:
        GenomeError: some point leaves (0, 1).
    """
    epsilon = max((high for _, high in epsilons), default=_EPSILON)
    for low, high in densities:
        if low < 1 and (low - epsilon <= 0 or high + epsilon >= 1):
            raise GenomeError(
                f"density in [{low:g}, {high:g}] with epsilon up to {epsilon:g} leaves "
                "(0, 1), and the merge would fail",
                where="genome.parameters.density",
                fix="Keep density - epsilon above 0 and density + epsilon below 1.",
            )

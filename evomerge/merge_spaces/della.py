"""What DELLA asks of its densities, looked at before a merge would fail.

Source: Deep et al., DELLA-Merging (2024), arXiv:2406.11617.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from evomerge.errors import GenomeError, Problem
from evomerge.merge_spaces.slots import Slot
from evomerge.space import Parameter, Real


def check_della(
    parameters: Collection[Parameter], slots: Collection[Slot], fixed: Mapping[str, Any]
) -> None:
    """Sees that 0 < density - epsilon and density + epsilon < 1 at every point.

    Args:
        parameters: What varies.
        slots: The values of a recipe, those that do not vary among them.
        fixed: Values that hold everywhere.

    Raises:
        GenomeError: they do not.
    """
    reach: dict[str, tuple[float, float]] = {"epsilon": (0.15, 0.15)}
    for name in ("density", "epsilon"):
        ranges = [
            (p.low, p.high)
            for p in parameters
            if isinstance(p, Real) and p.name.partition("[")[0] == name
        ]
        own = [slot.reader for slot in slots if slot.parameter == name]
        numbers = [v for v in (*own, fixed.get(name)) if isinstance(v, (int, float))]
        ranges += [(float(v), float(v)) for v in numbers]
        if ranges:
            reach[name] = (min(r[0] for r in ranges), max(r[1] for r in ranges))
    (low, high), epsilon = reach.get("density", (0.5, 0.5)), reach["epsilon"][1]
    if low - epsilon <= 0 or (high + epsilon >= 1 and low < 1):
        raise GenomeError.of(
            [
                Problem(
                    f"density in [{low:g}, {high:g}] with epsilon up to {epsilon:g} leaves "
                    "(0, 1), and the merge would fail",
                    "genome.parameters.density",
                    "Keep density - epsilon above 0 and density + epsilon below 1.",
                )
            ]
        )

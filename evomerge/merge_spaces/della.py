"""What DELLA asks of its densities, at every point of a space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evomerge.errors import GenomeError
from evomerge.merge_spaces.slots import Idle, Slot
from evomerge.space import Parameter, Real


def refuse_densities_outside(
    parameters: Iterable[Parameter], slots: Iterable[Slot], fixed: Mapping[str, Any]
) -> None:
    """Whether 0 < density - epsilon and density + epsilon < 1 everywhere.

    Args:
        parameters: Of the space.
        slots: Its values.
        fixed: Values that hold for the whole recipe.

    Raises:
        GenomeError: the merge would fail somewhere.
    """
    parameters, slots = tuple(parameters), tuple(slots)
    reach: dict[str, tuple[float, float]] = {"epsilon": (0.15, 0.15)}
    for name in ("density", "epsilon"):
        ranges = [
            (p.low, p.high)
            for p in parameters
            if isinstance(p, Real) and p.name.partition("[")[0] == name
        ]
        readers = [slot.reader for slot in slots if slot.parameter == name]
        values = [r.value if isinstance(r, Idle) else r for r in readers]
        numbers = [v for v in (*values, fixed.get(name)) if isinstance(v, (int, float))]
        ranges += [(float(v), float(v)) for v in numbers]
        if ranges:
            reach[name] = (min(r[0] for r in ranges), max(r[1] for r in ranges))
    (low, high), epsilon = reach.get("density", (0.5, 0.5)), reach["epsilon"][1]
    if low - epsilon <= 0 or (high + epsilon >= 1 and low < 1):
        raise GenomeError(
            f"density in [{low:g}, {high:g}] with epsilon up to {epsilon:g} leaves "
            "(0, 1), and the merge would fail",
            where="genome.parameters.density",
            fix="Keep density - epsilon above 0 and density + epsilon below 1.",
        )

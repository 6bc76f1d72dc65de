"""What an optimizer calls what it asks for."""

from __future__ import annotations

from evomerge.optimizers.base import Optimizer


def labels_of(optimizer: Optimizer) -> tuple[str, ...]:
    """The name of each genotype of the last ``ask``."""
    return tuple(origin.name for origin in optimizer.origins)

"""What a swarm's particles are in the space at hand: sums of models, or something near it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evomerge.checks.context import CheckContext
from evomerge.foundations.counted import counted
from evomerge.foundations.findings import Finding, note
from evomerge.genome.schema import OptimizerBlock
from evomerge.optimizers.swarm.motion import has_room


def swarm_in_few_directions(context: CheckContext) -> Iterator[Finding]:
    """One draw for all places: particles stay sums of those the swarm began with."""
    if context.merge_space is None or context.merge_space.places() is None:
        return
    space = context.merge_space
    points = [space.source_point(index) for index in range(len(space.definition.models))]
    experts = [space.space.encode(point) for point in points if point is not None]
    is_wide = bool(experts) and has_room(np.stack(experts))
    for place, draws in _swarms(context.genome.optimizer):
        if draws == "model" or (draws is None and is_wide):
            yield note(
                "the swarm stays among the sums of its first particles (models, average, base): "
                f"of {counted(space.space.n_dims, 'parameter')} it varies a few combinations, "
                "however large the budget",
                f"{place}.draws",
                "draws: place draws for each place of the model by itself.",
            )


def swarm_in_shares(context: CheckContext) -> Iterator[Finding]:
    """Coordinates in which a sum of two merges is no sum of their models."""
    if context.merge_space is None or not context.merge_space.has_shares():
        return
    for place, _ in _swarms(context.genome.optimizer):
        yield note(
            "weights >= 0 that sum to 1 are searched as shares of what is left, so that particles "
            "are no exact sums of one another, as the paper's are",
            place,
            "genome.allow_negative_weights: true moves in the weights themselves.",
        )


def _swarms(block: OptimizerBlock) -> Iterator[tuple[str, object]]:
    """Where each swarm of a genome stands, and what it draws."""
    key = "chain" if block.chain else "islands"
    for index, link in enumerate(block.links):
        if link.name == "swarm":
            place = f"optimizer.{key}[{index}]" if block.parts else "optimizer"
            yield place, link.settings.get("draws")

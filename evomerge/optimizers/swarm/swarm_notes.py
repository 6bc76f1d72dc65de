"""What a swarm's particles are in the space at hand: sums of models, or something near it."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.foundations.counted import counted
from evomerge.foundations.errors import Problem
from evomerge.nouns.space import Space
from evomerge.optimizers.search_context import SearchContext
from evomerge.optimizers.swarm.motion import has_room
from evomerge.optimizers.swarm.swarm_settings import SwarmSettings


def all_notes(space: Space, context: SearchContext, settings: SwarmSettings) -> Iterator[Problem]:
    """Each where it is so."""
    yield from _few_directions(space, context, settings)
    yield from _shares(context)


def _few_directions(
    space: Space, context: SearchContext, settings: SwarmSettings
) -> Iterator[Problem]:
    """One draw for all places: particles stay sums of those the swarm began with."""
    if context.places is None:
        return
    is_wide = context.experts is not None and has_room(context.experts)
    if settings.draws == "model" or (settings.draws is None and is_wide):
        yield Problem(
            "the swarm stays among the sums of its first particles (models, average, base): "
            f"of {counted(space.n_dims, 'parameter')} it varies a few combinations, "
            "however large the budget",
            "draws",
            "draws: place draws for each place of the model by itself.",
        )


def _shares(context: SearchContext) -> Iterator[Problem]:
    """Coordinates in which a sum of two merges is no sum of their models."""
    if context.has_shares:
        yield Problem(
            "weights >= 0 that sum to 1 are searched as shares of what is left, so that particles "
            "are no exact sums of one another, as the paper's are",
            fix="genome.allow_negative_weights: true moves in the weights themselves.",
        )

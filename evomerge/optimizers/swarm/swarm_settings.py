"""The settings of ``swarm``, by the paper's names made plain and with its defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from evomerge.genome.misfit import MisfitError
from evomerge.optimizers.base import OptimizerSettings

_MOST_DROPPED = 0.99  # beyond, a swarm moves for ever before anyone is evaluated


class SwarmSettings(OptimizerSettings):
    """Settings of ``swarm``.

    Attributes:
        inertia: How much of the last step is kept, before the four are scaled to sum 1.
        cognitive: Pull to the particle's own best place, likewise.
        social: Pull to the swarm's best place, likewise.
        repel: Push from the swarm's worst place, likewise; 0 switches it off.
        randomness: Whether the four are each multiplied by a random number in (0, 1] first.
        draws: Whether that number, and where a child lies between its parents, is drawn once
            for the whole particle (``model``, as in the paper), for each place of the model that
            has weights of its own (``place``), or for each coordinate (``coordinate``). None:
            ``model`` where the ranges have room for every child of two models, else ``place``.
        step_length: Of the first move.
        step_length_factor: What each move multiplies it by.
        minimum_step_length: Below which it does not go.
        initial_velocity: ``zero``; ``random``: towards another particle; ``best``: towards the
            best one.
        restart: Whether a particle that no longer improves goes back to its best place, at rest.
        restart_patience: Evaluations after which it does, the one that found its best place
            counted, as the authors do.
        stale_iterations: Iterations with the same best after which the search is over, the one
            that found it counted, as the authors do; None never. The paper has 10; here the
            budget ends a search.
        max_iterations: Moves of the swarm; None for as many as the budget has. The paper has 50.
        particle_dropout: Chance that a particle moves but is not evaluated.
        iteration_dropout: Chance that this happens to all of them at once.
    """

    inertia: float = Field(default=0.4, ge=0)
    cognitive: float = Field(default=0.3, ge=0)
    social: float = Field(default=0.3, ge=0)
    repel: float = Field(default=0.3, ge=0)
    randomness: bool = True
    draws: Literal["model", "place", "coordinate"] | None = None
    step_length: float = Field(default=1.0, gt=0)
    step_length_factor: float = Field(default=0.95, gt=0, le=1)
    minimum_step_length: float = Field(default=0.1, ge=0)
    initial_velocity: Literal["zero", "random", "best"] = "random"
    restart: bool = True
    restart_patience: int = Field(default=5, ge=1)
    stale_iterations: int | None = Field(default=None, ge=1)
    max_iterations: int | None = Field(default=None, ge=1)
    particle_dropout: float = Field(default=0.0, ge=0, le=_MOST_DROPPED)
    iteration_dropout: float = Field(default=0.0, ge=0, le=_MOST_DROPPED)

    @model_validator(mode="after")
    def _something_moves(self) -> SwarmSettings:
        if not any((self.inertia, self.cognitive, self.social, self.repel)):
            raise ValueError("inertia, cognitive, social and repel are all 0: nothing would move")
        if self.minimum_step_length > self.step_length:
            raise MisfitError(
                f"got {self.minimum_step_length:g}, above step_length ({self.step_length:g}), "
                "which only falls",
                "minimum_step_length",
                fix="Make it smaller, or raise step_length.",
            )
        return self

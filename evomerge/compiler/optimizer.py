"""The optimizer that a genome names, with its settings, over a compiled space."""

from __future__ import annotations

from dataclasses import replace

from pydantic import ValidationError

from evomerge.errors import EvomergeError, GenomeError, Problem
from evomerge.genome.load import problems_of
from evomerge.genome.schema import Genome, OptimizerBlock
from evomerge.genome.source import Source
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.base import Settings as OptimizerSettings
from evomerge.seeding import stream, stream_seed
from evomerge.space import Space

OptimizerChoice = tuple[type[Optimizer], OptimizerSettings]


def chosen_optimizer(genome: Genome, source: Source) -> OptimizerChoice:
    """The class and the settings of a genome's optimizer; needs no model.

    Raises:
        GenomeError: no such optimizer, or it cannot do what the genome asks.
    """
    found = optimizer_problems(genome.optimizer, n_objectives(genome), source)
    if found:
        raise GenomeError.of(found)
    optimizer = OPTIMIZERS[genome.optimizer.name]
    return optimizer, optimizer.Settings.model_validate(genome.optimizer.settings)


def optimizer_problems(block: OptimizerBlock, n_losses: int, source: Source) -> list[Problem]:
    """What an optimizer cannot do of what the genome asks, all at once."""
    where = ("optimizer", "name") if ("optimizer", "name") in source.lines else ("optimizer",)
    try:
        optimizer = OPTIMIZERS[block.name]
    except EvomergeError as error:
        problem = error.problems[0]
        return [replace(problem, where=source.where(where))]
    found = []
    size, least = block.population_size, optimizer.min_population_size
    if size is not None and size < least:
        what = f"got {size}, {block.name} needs {least} or more"
        found.append(Problem(what, source.where(("optimizer", "population_size"))))
    if n_losses > 1 and not optimizer.multi_objective:
        what = f"objective: per_task has {n_losses} objectives, {block.name} minimises one"
        fix = "Use optimizer: nsga2, or another objective."
        found.append(Problem(what, source.where(("objective",)), fix))
    try:
        optimizer.Settings.model_validate(block.settings)
    except ValidationError as error:
        common = OptimizerBlock.model_fields
        found += problems_of(error, source, optimizer.Settings, ("optimizer",), common)
    return found


def n_objectives(genome: Genome) -> int:
    """How many losses a trial of the genome has."""
    return len(genome.tasks) if genome.objective == "per_task" else 1


def optimizer_for(choice: OptimizerChoice, genome: Genome, space: Space) -> Optimizer:
    """The optimizer over a space, ready to ask."""
    optimizer, settings = choice
    given = genome.optimizer.seed
    return optimizer(
        _started(space, genome),
        seed=given if given is not None else stream_seed(genome.seed, "optimizer"),
        population_size=_population_size(optimizer, genome, space),
        n_objectives=n_objectives(genome),
        settings=settings,
    )


def _population_size(optimizer: type[Optimizer], genome: Genome, space: Space) -> int:
    """As the genome says, else the optimizer's own, but never less than one per worker."""
    given = genome.optimizer.population_size
    if given is None:
        return max(optimizer.default_population_size(space.n_dims), genome.execution.workers)
    return given


def _started(space: Space, genome: Genome) -> Space:
    """The space with the search's start: as compiled, or drawn at random."""
    if not genome.random_init:
        return space
    start = stream(genome.seed, "start").random(space.n_dims)
    return Space(
        tuple(
            replace(p, initial=p.decode(float(u)))  # type: ignore[arg-type]  # own kind's value
            for p, u in zip(space.parameters, start, strict=True)
        )
    )

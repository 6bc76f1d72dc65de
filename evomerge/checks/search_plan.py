"""How a search goes: its trials, documents and forward passes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evomerge.checks.gate_room import gate_needs
from evomerge.checks.need import Need
from evomerge.checks.path_room import path_needs
from evomerge.checks.resources import Sizes, Storage, Training, sizes_of, stores_of, training_of
from evomerge.evaluators.beside import Room, largest_in_turn, shared_room
from evomerge.evaluators.task_facts import TaskFacts
from evomerge.merge_spaces.baselines import baselines
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import TrainingSettings
from evomerge.run.final_choice import AT_MOST

if TYPE_CHECKING:
    from evomerge.checks.context import CheckContext
from evomerge.checks.given_to_workers import n_sharing

LONGEST_ROW = 2048  # tokens of a row, where a batch is counted in rows


@dataclass(frozen=True)
class Trials:
    """How a search goes.

    Attributes:
        n_dims: Parameters searched.
        optimizer: Who proposes.
        n_baselines: Trials before the optimizer's.
        n_fixed: Those of them that are fixed recipes, of which the best alone is a final.
        budget: Trials of the optimizer.
        population: Trials per generation.
        workers: Trials at once.
        tasks: Split -> its tasks.
        finalists: Best trials that are scored on validation, at least; at most twice as many.
    """

    n_dims: int
    optimizer: str
    n_baselines: int
    budget: int
    population: int
    workers: int
    tasks: Mapping[str, tuple[TaskFacts, ...]]
    finalists: int = 1
    n_fixed: int = 0

    @property
    def n_generations(self) -> int:
        """Generations, the last one perhaps cut short."""
        return math.ceil(self.budget / self.population)

    def n_documents(self, split: str = "tasks") -> int:
        """Documents of one evaluation."""
        return sum(task.n_documents for task in self.tasks.get(split, ()))

    def n_rows(self, split: str = "tasks") -> int:
        """Rows of the forward passes of one evaluation, at most."""
        return sum(task.n_rows for task in self.tasks.get(split, ()))

    def n_trials(self, split: str = "tasks") -> int:
        """Trials that are scored on a split, at most: baselines always are, but for recipes."""
        if split == "tasks":
            return self.n_baselines + self.budget
        chosen = AT_MOST * self.finalists if split == "validation" else 1
        beside = self.n_baselines - max(self.n_fixed - 1, 0)
        return beside + min(chosen, self.budget)

    @property
    def finals(self) -> tuple[str, ...]:
        """The splits that are scored after the search."""
        return tuple(split for split in self.tasks if split != "tasks")


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        trials: How its search goes; None where genome or models have errors.
        stores: Memory and disk; empty where no model could be read.
    """

    trials: Trials | None
    stores: tuple[Storage, ...]


def plan_of(context: CheckContext) -> Plan:
    """What a run of a genome will take, as far as its files could be read."""
    return Plan(trials_of(context), storage_of(context))


def trials_of(context: CheckContext) -> Trials | None:
    """How the search goes."""
    genome, space, optimizer = context.genome, context.merge_space, context.optimizer
    if space is None or optimizer is None:
        return None
    first = baselines(space, genome.baselines)
    n_fixed = sum(one.is_fixed_recipe for one in first) if genome.objective != "per_task" else 0
    return Trials(
        space.space.n_dims,
        genome.optimizer.title,
        len(first) + len(context.seeds),
        genome.optimizer.budget,
        optimizer.population_size,
        genome.execution.workers,
        {split: evaluator.facts() for split, evaluator in context.evaluators.items()},
        genome.finalists,
        n_fixed,
    )


def storage_of(context: CheckContext) -> tuple[Storage, ...]:
    """Where the run takes memory and disk on this machine."""
    genome, space = context.genome, context.merge_space
    out_dtype = space.out_dtype if space is not None else genome.genome.out_dtype or ""
    sizes = sizes_of(genome, context.models, context.dtype or out_dtype)
    if sizes is None:
        return ()
    passes = (e.tokens_per_pass(context.device, LONGEST_ROW) for e in context.evaluators.values())
    workers, most = genome.execution.workers, max(passes, default=0)
    return stores_of(
        replace(sizes, staged=_n_staged(context) * sizes.n_values * sizes.item),
        most,
        workers,
        context.device,
        context.run_dir,
        _methods(context),
        _training(context, sizes),
        (*path_needs(context, most), *gate_needs(context), *_judges_running(context)),
        _judges_waiting(context),
        n_sharing=n_sharing(context.genome),
    )


def _judges_running(context: CheckContext) -> Iterator[Need]:
    """What judges of any split hold where the live model is, where that is a GPU."""
    workers = n_sharing(context.genome)
    for what, n_bytes in largest_in_turn(_held(context), context.device).items():
        yield Need(f"{what}{_each(workers)}", workers * n_bytes)


def _judges_waiting(context: CheckContext) -> Iterator[Need]:
    """What they hold in main memory."""
    workers = context.genome.execution.workers
    for what, one in _held(context).items():
        if one.n_waiting:
            yield Need(f"{what}{_each(workers)}", workers * one.n_waiting)


def _held(context: CheckContext) -> Room:
    return shared_room(one.room() for one in context.evaluators.values())


def _each(workers: int) -> str:
    return "" if workers == 1 else f", {workers} workers"


def _n_staged(context: CheckContext) -> int:
    """Models that lie on the disk between merges at one time, one recipe for each worker."""
    space = context.merge_space
    if space is None:
        return 0
    known = [one.recipe for one in baselines(space, context.genome.baselines)]
    known += [seed.recipe for seed in context.seeds]
    searched = len(space.recipe(space.space.decode(space.space.initial)).made)
    workers = context.genome.execution.workers
    most = sorted((len(recipe.made) for recipe in known), reverse=True)[:workers]
    return max(sum(most), workers * searched)


def _methods(context: CheckContext) -> set[str]:
    """Merge methods of the run: the genome's own, and those of its baselines."""
    own = context.genome.genome.merge_method
    if context.merge_space is None:
        return {own}
    first = baselines(context.merge_space, context.genome.baselines)
    named = {method for one in first for method in one.recipe.methods}
    return {own, *(named - {"passthrough"})}  # which only copies a model


def _training(context: CheckContext, sizes: Sizes) -> Training | None:
    """What the optimizers train; None where they do not, or cannot be built."""
    if context.merge_space is None or context.optimizer is None:
        return None
    links = [one for one in context.genome.optimizer.links if OPTIMIZERS[one.name].trains]
    n_checkpoints, n_weights = 0, context.merge_space.space.n_dims
    for link in links:
        settings = OPTIMIZERS[link.name].Settings.model_validate(link.settings)
        assert isinstance(settings, TrainingSettings)  # the contract of who trains
        finer = context.merge_space.by_tensor() if settings.is_by_tensor else None
        n_weights = n_weights if finer is None else finer.space.n_dims
        n_checkpoints += settings.n_checkpoints(link.budget)
    return training_of(sizes, n_weights, n_checkpoints or None) if links else None

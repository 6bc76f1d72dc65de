"""The tasks of a genome: how workers score them, and the rule that turns metrics into losses."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Literal

from evomerge.errors import GenomeError, Problem
from evomerge.evaluators.base import Evaluator, problems_of_split
from evomerge.executors.factory import Workshop
from evomerge.genome.schema import Genome
from evomerge.genome.tasks import Task
from evomerge.objective import Objective
from evomerge.permissions import Permissions

Split = Literal["tasks", "validation", "holdout"]
SPLITS: tuple[Split, ...] = ("tasks", "validation", "holdout")


@dataclass
class LoadedTasks:
    """The tasks of every split.

    Attributes:
        workshop: How workers are built.
        evaluators: Split -> its evaluator, prepared; without the splits that have problems.
        objectives: Split -> its objective, likewise.
        problems: What is wrong with the tasks.
    """

    workshop: Workshop
    evaluators: dict[str, Evaluator] = field(default_factory=dict)
    objectives: dict[str, Objective] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def pass_in(self, dtype: str | None) -> None:
        """Has workers make their forward passes in a dtype; None: in that of the models."""
        self.workshop = self.workshop.passing_in(dtype)


def load_tasks(genome: Genome, permissions: Permissions) -> LoadedTasks:
    """Loads every task of a genome; needs no model."""
    workshop = Workshop(
        _splits(genome),
        genome.evaluation_settings,
        tuple(genome.task_search_path),
        genome.seed,
        device_for(genome.evaluation.device),
        _threads(genome),
        permissions,
    )
    loaded = LoadedTasks(workshop)
    for split, evaluator in workshop.evaluators().items():
        try:
            keys = evaluator.prepare()
        except GenomeError as error:
            loaded.problems += problems_of_split(error, split)
            continue
        loaded.evaluators[split] = evaluator
        loaded.objectives[split] = Objective(genome.objective, evaluator.tasks, keys)
    return loaded


def turned_weights(tasks: LoadedTasks) -> dict[int, float]:
    """Search tasks whose weight is below 0 and whose metric is better when lower.

    mergekit-evolve knows no directions: there a negative weight says that lower is better.

    Returns:
        Index of the task -> the weight that says the same where directions are known.
    """
    evaluator = tasks.evaluators.get("tasks")
    if evaluator is None or all(task.weight >= 0 for task in evaluator.tasks):
        return {}
    return {
        index: -task.weight
        for index, (task, facts) in enumerate(zip(evaluator.tasks, evaluator.facts(), strict=True))
        if task.weight < 0 and not facts.higher_is_better
    }


def with_weights(tasks: LoadedTasks, genome: Genome) -> LoadedTasks:
    """The same tasks with the weights of a genome."""
    splits = _splits(genome)
    objectives = {}
    for split, evaluator in tasks.evaluators.items():
        evaluator.tasks = splits[split]
        keys = tasks.objectives[split].keys
        objectives[split] = Objective(genome.objective, evaluator.tasks, keys)
    return replace(tasks, workshop=replace(tasks.workshop, splits=splits), objectives=objectives)


def _splits(genome: Genome) -> dict[str, tuple[Task, ...]]:
    return {split: genome.split(split) for split in SPLITS if getattr(genome, split)}


def device_for(name: str) -> str:
    """A torch device; ``auto`` is cuda where there is one."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _threads(genome: Genome) -> int | None:
    """Workers share the cores; one worker leaves torch its own choice."""
    workers = genome.execution.workers
    return None if workers == 1 else max((os.cpu_count() or 1) // workers, 1)

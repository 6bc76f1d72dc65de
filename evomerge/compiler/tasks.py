"""The tasks of a genome: how workers score them, and the rule that turns metrics into losses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from evomerge.errors import GenomeError, Problem
from evomerge.evaluators.base import Evaluator
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
    splits: dict[str, tuple[Task, ...]] = {
        split: genome.split(split) for split in SPLITS if getattr(genome, split)
    }
    workshop = Workshop(
        splits,
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
            loaded.problems += _of_split(error, split)
            continue
        loaded.evaluators[split] = evaluator
        loaded.objectives[split] = Objective(genome.objective, evaluator.tasks, keys)
    return loaded


def device_for(name: str) -> str:
    """A torch device; ``auto`` is cuda where there is one."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _of_split(error: GenomeError, split: str) -> Iterator[Problem]:
    """The evaluator calls its tasks ``tasks``, whichever split they are of."""
    for problem in error.problems:
        where = problem.where
        if where.startswith("tasks"):
            where = split + where.removeprefix("tasks")
        yield Problem(problem.what, where, problem.fix)


def _threads(genome: Genome) -> int | None:
    """Workers share the cores; one worker leaves torch its own choice."""
    workers = genome.execution.workers
    return None if workers == 1 else max((os.cpu_count() or 1) // workers, 1)

"""The tasks of a genome: how workers score them, and the rule that turns metrics into losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from evomerge.evaluators.base import Evaluator, problems_of_split
from evomerge.executors.own_settings import executor_settings
from evomerge.executors.worker_factory import WorkerFactory
from evomerge.foundations.errors import GenomeError, Problem, UnknownNameError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.schema import Genome
from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import MetricKey
from evomerge.nouns.objective import Objective

Split = Literal["tasks", "validation", "holdout"]
Names = Mapping[str, Mapping[str, str]]  # split -> task -> "metric,filter"
SPLITS: tuple[Split, ...] = ("tasks", "validation", "holdout")


@dataclass
class LoadedTasks:
    """The tasks of every split.

    Attributes:
        worker_factory: How workers are built.
        evaluators: Split -> its evaluator, prepared; without the splits that have problems.
        objectives: Split -> its objective, likewise.
        problems: What is wrong with the tasks.
    """

    worker_factory: WorkerFactory
    evaluators: dict[str, Evaluator] = field(default_factory=dict)
    objectives: dict[str, Objective] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def pass_in(self, dtype: str | None) -> None:
        """Has workers make their forward passes in a dtype; None: in that of the models."""
        self.worker_factory = self.worker_factory.passing_in(dtype)


def load_tasks(genome: Genome, permissions: Permissions) -> LoadedTasks:
    """Loads every task of a genome; needs no model."""
    settings = executor_settings(genome.execution)
    worker_factory = WorkerFactory(
        _splits(genome),
        genome.evaluation_settings,
        tuple(genome.task_search_path),
        genome.seed,
        settings.device or device_for(genome.evaluation.device),
        settings.threads(genome.execution.workers),
        permissions,
        packages=tuple(genome.genome.merge_method_packages),
    )
    loaded = LoadedTasks(worker_factory)
    for split in worker_factory.splits:
        try:
            evaluator = worker_factory.evaluator(split)
            keys = evaluator.prepare()
        except (GenomeError, UnknownNameError) as error:
            loaded.problems += problems_of_split(error, split)
            continue
        loaded.evaluators[split] = evaluator
        loaded.objectives[split] = Objective(genome.objective, evaluator.tasks, keys)
    return loaded


def with_names(tasks: LoadedTasks, names: Names) -> LoadedTasks:
    """The same tasks, the metric of each with the name that its results gave it, and no other.

    Workers that are built from now on read it, and so do evaluators that are loaded already.
    """
    keys = {
        split: [_renamed(key, names.get(split, {})) for key in objective.keys]
        for split, objective in tasks.objectives.items()
    }
    for split, evaluator in tasks.evaluators.items():
        evaluator.settle(keys[split])
    splits = {
        split: tuple(
            task.model_copy(update={"metric": f"{key.metric},{key.filter}"})
            for task, key in zip(own, keys[split], strict=True)
        )
        if split in keys
        else own
        for split, own in tasks.worker_factory.splits.items()
    }
    objectives = {
        split: Objective(objective.name, objective.tasks, keys[split])
        for split, objective in tasks.objectives.items()
    }
    return replace(
        tasks, worker_factory=replace(tasks.worker_factory, splits=splits), objectives=objectives
    )


def untold(tasks: LoadedTasks, names: Names) -> Names:
    """Of some names those of metrics that only results name; none where one of them is missing.

    They may be of another genome's run, which says nothing of what the YAML of a task tells.
    """
    wanted = {
        split: [facts.key.task for facts in evaluator.facts() if not facts.is_known]
        for split, evaluator in (tasks.evaluators if names else {}).items()
    }
    wanted = {split: own for split, own in wanted.items() if own}
    if any(name not in names.get(split, {}) for split, own in wanted.items() for name in own):
        return {}
    return {split: {name: names[split][name] for name in own} for split, own in wanted.items()}


def _renamed(key: MetricKey, names: Mapping[str, str]) -> MetricKey:
    if key.task not in names:
        return key
    metric, _, filter_name = names[key.task].rpartition(",")
    return MetricKey(key.task, metric, filter_name)


def with_weights(tasks: LoadedTasks, weights: Mapping[int, float]) -> LoadedTasks:
    """The same tasks with other weights of some search tasks, by their index."""

    def weighted(own: Sequence[Task]) -> tuple[Task, ...]:
        changed = {index: {"weight": weight} for index, weight in weights.items()}
        return tuple(t.model_copy(update=changed.get(i, {})) for i, t in enumerate(own))

    evaluator, objective = tasks.evaluators["tasks"], tasks.objectives["tasks"]
    evaluator.tasks = weighted(evaluator.tasks)
    objectives = {
        **tasks.objectives,
        "tasks": Objective(objective.name, evaluator.tasks, objective.keys),
    }
    splits = {
        **tasks.worker_factory.splits,
        "tasks": weighted(tasks.worker_factory.splits["tasks"]),
    }
    return replace(
        tasks, worker_factory=replace(tasks.worker_factory, splits=splits), objectives=objectives
    )


def _splits(genome: Genome) -> dict[str, tuple[Task, ...]]:
    return {split: genome.split(split) for split in SPLITS if getattr(genome, split)}


def device_for(name: str) -> str:
    """A torch device; ``auto`` is cuda where there is one."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

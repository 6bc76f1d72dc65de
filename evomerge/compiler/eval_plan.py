"""Names of models and tasks -> what scores them side by side, every mistake told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evomerge.compiler.entrants import NamedRecipe, named_recipes
from evomerge.compiler.genome_file import read_genomes
from evomerge.compiler.named_tasks import OPTION, named_tasks
from evomerge.compiler.split_tasks import device_for
from evomerge.evaluators.base import Evaluator
from evomerge.evaluators.task_facts import TaskFacts
from evomerge.executors.worker_factory import WorkerFactory
from evomerge.foundations.errors import EvomergeError, GenomeError, Problem
from evomerge.foundations.permissions import Permissions
from evomerge.genome.task_blocks import DEVICES, EvaluationBlock, Task, names_device
from evomerge.genome.words import Split
from evomerge.models.fingerprint import folders_of
from evomerge.models.pass_dtype import pass_dtype
from evomerge.recipe.base import Hear
from evomerge.run.side_by_side import Entrant

_DEVICE_FIX = "Use auto, or a device that `evomerge doctor` lists."


@dataclass(frozen=True)
class TasksGiven:
    """Which tasks, and how models are run on them.

    Attributes:
        names: Of tasks, see :func:`named_tasks`.
        search_path: Folders with task definitions of the user's.
        genome: A genome whose tasks are meant instead, of several stages those of the last; None:
            those that were named.
        split: Which of its splits.
        settings: ``metric``, ``limit``, ``num_fewshot``; they win over the genome's.
        evaluation: Keys of ``evaluation:``, likewise.
        seed: Root seed; None: that of the genome, else 0.
    """

    names: Sequence[str] = ()
    search_path: Sequence[str] = ()
    genome: Path | None = None
    split: Split = "holdout"
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True)
class EvalPlan:
    """Everything is there, and nothing was merged yet.

    Attributes:
        entrants: What is scored.
        evaluators: Task -> what scores it alone, prepared.
        device: Where.
    """

    entrants: tuple[Entrant, ...]
    evaluators: Mapping[str, Evaluator]
    device: str

    @property
    def facts(self) -> tuple[TaskFacts, ...]:
        """What is known of each task."""
        return tuple(facts for one in self.evaluators.values() for facts in one.facts())

    @property
    def sources(self) -> frozenset[Path]:
        """What models and adapters are called; some are folders."""
        models = (model for one in self.entrants for model in one.recipe.named)
        return frozenset(
            Path(part) for model in models for part in (model.path, model.lora) if part
        )


def eval_plan(
    models: Sequence[str], given: TasksGiven, permissions: Permissions, hear: Hear
) -> EvalPlan:
    """Reads what is named; loads no weights.

    Args:
        models: Names, see :func:`named_recipes`.
        given: Tasks, and how models are run.
        permissions: What the user allows.
        hear: Takes findings that stop nothing.

    Raises:
        GenomeError: everything that is wrong with models and tasks.
    """
    recipes, wrong = named_recipes(models, permissions, hear)
    return plan_of(recipes, given, permissions, wrong)


def plan_of(
    recipes: Sequence[NamedRecipe],
    given: TasksGiven,
    permissions: Permissions,
    wrong: Sequence[Problem] = (),
) -> EvalPlan:
    """The same for recipes that were looked at, and what was found wrong with them."""
    wrong = list(wrong)
    try:
        factory, mistakes = _factory(given, permissions, is_sound=not wrong)
    except GenomeError as error:  # of the genome that names the tasks
        raise GenomeError.of([*wrong, *error.problems]) from error
    wrong += mistakes
    if wrong:  # before lm-eval is loaded
        raise GenomeError.of(wrong)
    evaluators: dict[str, Evaluator] = {}
    for name in factory.splits:
        try:
            evaluators[name] = factory.evaluator(name)
            evaluators[name].prepare()
        except EvomergeError as error:
            wrong += [_of_task(problem, name, given) for problem in error.problems]
    if wrong:
        raise GenomeError.of(wrong)
    entrants = tuple(_entrant(one, factory) for one in recipes)
    return EvalPlan(entrants, evaluators, factory.device)


def _factory(
    given: TasksGiven, permissions: Permissions, *, is_sound: bool
) -> tuple[WorkerFactory, list[Problem]]:
    """How workers are built, each task a split of its own; and what is wrong with the tasks.

    Args:
        given: What was named.
        permissions: What the user allows.
        is_sound: Whether nothing else is wrong: then torch and lm-eval are loaded.
    """
    settings = {key: value for key, value in given.settings.items() if value is not None}
    if given.genome is not None:
        genome = read_genomes(given.genome).stages[-1].genome
        tasks: Sequence[Task] = genome.split(given.split)
        if not tasks:
            what = f"it has no {given.split} tasks"
            raise GenomeError(what, where=str(given.genome), fix="Name another --split.")
        tasks = [task.model_copy(update=_fitting(task, settings)) for task in tasks]
        block, seed = genome.evaluation_settings, genome.seed
        search_path, wrong = [*given.search_path, *genome.task_search_path], []
    else:
        found = named_tasks(given.names, settings if is_sound else {})
        tasks, wrong = found.tasks, list(found.problems)
        block, seed = EvaluationBlock(), 0
        search_path = [*found.search_path, *given.search_path]
    update = {key: value for key, value in given.evaluation.items() if value is not None}
    block = block.model_copy(update=update)
    is_asked = (is_sound and not wrong) or given.evaluation.get("device") is not None
    device, lacks = _device(block.device, given) if is_asked else ("cpu", [])
    factory = WorkerFactory(
        {task.name: (task,) for task in tasks},
        block,
        tuple(dict.fromkeys(search_path)),
        seed if given.seed is None else given.seed,
        device,
        permissions=permissions,
    )
    return factory, [*wrong, *lacks]


def _device(name: str, given: TasksGiven) -> tuple[str, list[Problem]]:
    """The device that is meant, and what is wrong with it."""
    where = "--device" if given.evaluation.get("device") else f"{given.genome}: evaluation.device"
    if not names_device(name):
        return "cpu", [Problem(f"got {name!r}, expected {DEVICES}", where, _DEVICE_FIX)]
    from evomerge.merging.bits import is_there  # loads torch

    device = device_for(name)
    if is_there(device):
        return device, []
    return "cpu", [Problem(f"{device} is not on this machine", where, _DEVICE_FIX)]


def _fitting(task: Task, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that win over a task's own; a limit takes the place of drawn documents."""
    return {**settings, "samples": None} if "limit" in settings else dict(settings)


def _of_task(problem: Problem, name: str, given: TasksGiven) -> Problem:
    """An evaluator of one task calls it ``tasks[0]``."""
    if problem.where and not problem.where.startswith("tasks"):
        return problem
    source = OPTION if given.genome is None else f"{given.genome}: {given.split}"
    return replace(problem, where=f"{source} {name}")


def _entrant(one: NamedRecipe, factory: WorkerFactory) -> Entrant:
    """A recipe with a worker of its own, whose sources make room for those of the next."""
    if factory.settings.dtype is None:
        factory = factory.passing_in(pass_dtype(one.dtype, factory.device))
    folders = [folder for model in one.recipe.named for folder in folders_of(model.in_recipe)]
    make = replace(
        factory,
        seed=factory.seed if one.merge_seed is None else one.merge_seed,
        threads=_threads() if one.threads is None else one.threads,
        folders=tuple(folders),
    )
    return Entrant(one.name, one.recipe, make)


def _threads() -> int:
    """Those that torch would use by itself: the one before may have had its own."""
    import torch

    return torch.get_num_threads()

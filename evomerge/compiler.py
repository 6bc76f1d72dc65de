"""Genome -> Search: the only reader of the tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from evomerge import __version__
from evomerge.architecture import Architecture
from evomerge.errors import EvomergeError, GenomeError, Problem
from evomerge.evaluators.base import Evaluator
from evomerge.executors import EXECUTORS
from evomerge.executors.base import Executor
from evomerge.executors.factory import Workshop
from evomerge.files import digest
from evomerge.genome.load import problems_of, to_yaml
from evomerge.genome.schema import Genome, OptimizerBlock
from evomerge.genome.source import Source
from evomerge.genome.tasks import Task
from evomerge.ledger import Ledger, RunFolder
from evomerge.merge_spaces import merge_space_for
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.baselines import baselines
from evomerge.objective import Objective
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.base import Settings as OptimizerSettings
from evomerge.provenance import versions
from evomerge.search import Limits, Search
from evomerge.seeding import stream, stream_seed
from evomerge.space import Space, to_data

Split = Literal["tasks", "validation", "holdout"]
SPLITS: tuple[Split, ...] = ("tasks", "validation", "holdout")


@dataclass(frozen=True)
class Compiled:
    """A genome that fits its models: everything the files can show has been checked.

    Attributes:
        genome: The file as an object.
        source: The file with its lines.
        architecture: What the models have in common.
        merge_space: What varies, and what it means.
        optimizer: Who will propose.
    """

    genome: Genome
    source: Source
    architecture: Architecture
    merge_space: MergeSpace
    optimizer: Optimizer


def compile_genome(genome: Genome, source: Source) -> Compiled:
    """Checks a genome against its models and builds space and optimizer.

    Raises:
        GenomeError, ModelError: every mistake found, with file, line and key.
    """
    optimizer, settings = _optimizer_class(genome, source)
    models = all_models(genome)
    from evomerge.merging.describe import describe  # loads torch; a wrong genome must not
    from evomerge.merging.dtype import common_dtype

    architecture = describe(models)
    _check_tokenizers(genome, source, models)
    with _located(source):
        merge_space = merge_space_for(genome.genome)(
            genome.genome, architecture, common_dtype(models)
        )
    n_objectives = len(genome.tasks) if genome.objective == "per_task" else 1
    if n_objectives > 1 and not optimizer.multi_objective:
        raise GenomeError(
            f"objective: per_task has {n_objectives} objectives, {genome.optimizer.name} "
            "minimises one",
            where=source.where(("objective",)),
            fix="Use optimizer: nsga2, or another objective.",
        )
    return Compiled(
        genome,
        source,
        architecture,
        merge_space,
        optimizer(
            _started(merge_space.space, genome),
            seed=_optimizer_seed(genome),
            population_size=_population_size(optimizer, genome, merge_space.space),
            n_objectives=n_objectives,
            settings=settings,
        ),
    )


def search_for(compiled: Compiled, run_dir: Path) -> Search:
    """The run of a compiled genome in a folder; one that holds trials is continued.

    Raises:
        GenomeError: tasks or metrics are not known.
        LedgerError: the folder holds another run.
    """
    genome = compiled.genome
    workshop, evaluators, objectives = load_tasks(compiled)
    ledger = _ledger(compiled, RunFolder(run_dir), workshop)
    return Search(
        merge_space=compiled.merge_space,
        optimizer=compiled.optimizer,
        objective=objectives["tasks"],
        executor=_executor(genome, workshop, evaluators),
        ledger=ledger,
        baselines=baselines(compiled.merge_space),
        limits=Limits(genome.optimizer.budget, genome.optimizer.patience, genome.optimizer.timeout),
        finals={split: o for split, o in objectives.items() if split != "tasks"},
        warnings=warnings(compiled, evaluators["tasks"]),
    )


def load_tasks(
    compiled: Compiled,
) -> tuple[Workshop, dict[str, Evaluator], dict[str, Objective]]:
    """Loads every task of a genome.

    Returns:
        How workers are built, and per split its evaluator and its objective.

    Raises:
        GenomeError: every task and metric that is not known.
    """
    genome = compiled.genome
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
    )
    evaluators = workshop.evaluators()
    return workshop, evaluators, _objectives(compiled, evaluators)


def warnings(compiled: Compiled, evaluator: Evaluator) -> tuple[str, ...]:
    """Signs that the models' tokenizer does not fit the search tasks, one sentence each."""
    from evomerge.merging.vocabulary import load_tokenizer

    tokenizer, config = load_tokenizer(all_models(compiled.genome)[-1])
    return evaluator.warnings(tokenizer, config)


def all_models(genome: Genome) -> list[Any]:
    """Every model of a genome as a recipe names it, the base last."""
    named = [source.model for source in genome.genome.models]
    base = genome.genome.base_model
    return [m.in_recipe for m in (*named, *([base] if base and base not in named else []))]


def device_for(name: str) -> str:
    """A torch device; ``auto`` is cuda where there is one."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class _located:  # noqa: N801  # reads as a statement
    """Gives the problems raised inside the file and line of their key."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GenomeError):
            problems: Sequence[Problem] = [self.source.locate(p) for p in error.problems]
            raise GenomeError.of(problems) from error


def _optimizer_class(genome: Genome, source: Source) -> tuple[type[Optimizer], OptimizerSettings]:
    try:
        optimizer = OPTIMIZERS[genome.optimizer.name]
    except EvomergeError as error:
        problem = error.problems[0]
        where = source.where(("optimizer", "name"))
        raise GenomeError(problem.what, where=where, fix=problem.fix) from error
    size, least = genome.optimizer.population_size, optimizer.min_population_size
    if size is not None and size < least:
        raise GenomeError(
            f"got {size}, {genome.optimizer.name} needs {least} or more",
            where=source.where(("optimizer", "population_size")),
        )
    try:
        return optimizer, optimizer.Settings.model_validate(genome.optimizer.settings)
    except ValidationError as error:
        common = OptimizerBlock.model_fields
        found = problems_of(error, source, optimizer.Settings, ("optimizer",), common)
        raise GenomeError.of(found) from error


def _optimizer_seed(genome: Genome) -> int:
    given = genome.optimizer.seed
    return given if given is not None else stream_seed(genome.seed, "optimizer")


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


def _check_tokenizers(genome: Genome, source: Source, models: Sequence[Any]) -> None:
    definition = genome.genome
    if definition.tokenizer is not None or definition.tokenizer_source is not None:
        return
    from evomerge.merging.vocabulary import tokenizers_differ

    difference = tokenizers_differ(models)
    if difference:
        raise GenomeError(
            difference,
            where=source.where(("genome", "models")),
            fix="Set tokenizer_source: base (the base's vocabulary) or union (all tokens).",
        )


def _objectives(compiled: Compiled, evaluators: dict[str, Evaluator]) -> dict[str, Objective]:
    """Per split; all unknown tasks and metrics at once."""
    found: dict[str, Objective] = {}
    problems: list[Problem] = []
    for split, evaluator in evaluators.items():
        try:
            keys = evaluator.prepare()
        except GenomeError as error:
            problems += _of_split(error, split, compiled.source)
            continue
        name = compiled.genome.objective
        found[split] = Objective(name, evaluator.tasks, keys)
    if problems:
        raise GenomeError.of(problems)
    return found


def _of_split(error: GenomeError, split: str, source: Source) -> Iterator[Problem]:
    """The evaluator calls its tasks ``tasks``, whichever split they are of."""
    for problem in error.problems:
        where = problem.where
        if where.startswith("tasks"):
            where = split + where.removeprefix("tasks")
        yield source.locate(Problem(problem.what, where, problem.fix))


def _threads(genome: Genome) -> int | None:
    """Workers share the cores; one worker leaves torch its own choice."""
    workers = genome.execution.workers
    return None if workers == 1 else max((os.cpu_count() or 1) // workers, 1)


def _executor(genome: Genome, workshop: Workshop, evaluators: dict[str, Evaluator]) -> Executor:
    workers = genome.execution.workers
    if workers == 1:
        return EXECUTORS["serial"](partial(workshop, evaluators))
    return EXECUTORS["processes"](workshop, workers)


def _ledger(compiled: Compiled, folder: RunFolder, workshop: Workshop) -> Ledger:
    """The folder's ledger: new, or the one of the same genome."""
    genome_text = to_yaml(compiled.source)
    content_digest = digest(compiled.source.data)
    if folder.ledger.is_file():
        ledger = Ledger.open(folder)
        if ledger.header.get("genome_digest") != content_digest:
            raise GenomeError(
                "the folder holds a run of another genome",
                where=str(folder.path),
                fix="Choose another folder with --run-dir, or run the genome.yml in it.",
            )
        return ledger
    import torch

    header = {
        "evomerge": __version__,
        "genome": compiled.source.name,
        "genome_digest": content_digest,
        "seed": compiled.genome.seed,
        "merge_seed": workshop.seed,
        "threads": workshop.threads or torch.get_num_threads(),
        "device": workshop.device,
        "versions": versions(),
        "optimizer": compiled.genome.optimizer.name,
        "objective": compiled.genome.objective,
        "space": to_data(compiled.merge_space.space),
    }
    return Ledger.create(folder, header, genome_text)

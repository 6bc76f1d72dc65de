"""Every mistake that a genome file alone can show, those that only the tables know among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from evomerge.compiler.chosen_executor import executor_problems
from evomerge.compiler.chosen_space import space_problems
from evomerge.compiler.make_optimizer import optimizer_problems
from evomerge.compiler.task_kinds import task_problems
from evomerge.foundations.errors import GenomeError, Problem
from evomerge.genome.execution_block import Execution
from evomerge.genome.load import in_order, validate_genome
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.schema import Genome, OptimizerBlock
from evomerge.genome.yaml_file import YamlFile
from evomerge.inference import ENGINES


def genome_of(source: YamlFile) -> Genome:
    """As :func:`evomerge.genome.load.validate_genome`, which knows none of the tables.

    Raises:
        GenomeError: every mistake that the file alone can show.
    """
    found: list[Problem] = []
    try:
        genome = validate_genome(source)
    except GenomeError as mistakes:
        found += mistakes.problems
    found += (
        *_of_space(source),
        *_of_optimizer(source),
        *task_problems(source),
        *_of_engine(source),
        *_of_executor(source),
    )
    if found:
        raise GenomeError.of(in_order(found))
    return genome


def _of_space(source: YamlFile) -> list[Problem]:
    """Mistakes that only the merge space itself knows, where its block has no others."""
    try:
        definition = MergeDefinition.model_validate(source.data.get("genome"))
    except ValidationError:
        return []
    return space_problems(definition, source)


def _of_optimizer(source: YamlFile) -> list[Problem]:
    """Mistakes that only the optimizer itself knows; nothing is imported for the default one."""
    data, tasks = source.data, source.data.get("tasks")
    n_losses = len(tasks) if data.get("objective") == "per_task" and isinstance(tasks, list) else 1
    if "optimizer" not in data and n_losses == 1:
        return []
    return optimizer_problems(_sound_block(data.get("optimizer")), n_losses, source)


def _of_engine(source: YamlFile) -> Iterator[Problem]:
    """A backend that is not in the table; what is no text at all the schema tells."""
    block = source.data.get("evaluation")
    name = block.get("backend") if isinstance(block, dict) else None
    if isinstance(name, str) and name not in ENGINES:
        yield source.locate(ENGINES.missing(name, "evaluation.backend"))


def _of_executor(source: YamlFile) -> list[Problem]:
    """Mistakes that only the executor itself knows, where its block has no others."""
    try:
        execution = Execution.model_validate(source.data.get("execution", {}))
    except ValidationError:
        return []
    return executor_problems(execution, source) if execution.settings else []


def _sound_block(given: Any) -> OptimizerBlock:
    """The block without what the schema complains of; the default one where nothing is left."""
    rest = given
    while rest:
        try:
            return OptimizerBlock.model_validate(rest)
        except ValidationError as mistakes:
            wrong = {key for details in mistakes.errors() for key in _keys_of(details)}
        left = {k: v for k, v in rest.items() if k not in wrong} if isinstance(rest, dict) else {}
        rest = left if left != rest else {}
    return OptimizerBlock()


def _keys_of(details: ErrorDetails) -> tuple[Any, ...]:
    """The key of the block that a complaint is about, if any; what does not fit names its own."""
    misfit = details.get("ctx", {}).get("error")
    return (*details["loc"], *getattr(misfit, "path", ()))[:1]

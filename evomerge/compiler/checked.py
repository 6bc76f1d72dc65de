"""A genome file, with every mistake in it, or everything it stands for, in one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from evomerge.compiler.chosen_space import space_problems
from evomerge.compiler.compiled import Examination
from evomerge.compiler.examine import examine
from evomerge.compiler.identity import refusal
from evomerge.compiler.make_optimizer import optimizer_problems
from evomerge.foundations.errors import GenomeError, Problem
from evomerge.foundations.findings import error
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import in_order, read_source, validate_genome
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.schema import Genome, OptimizerBlock
from evomerge.genome.source import Source
from evomerge.run.ledger.run_folder import RunFolder


def read_genome(path: Path, overrides: Sequence[str] = ()) -> tuple[Genome, Source]:
    """As :func:`evomerge.genome.load.load_genome`, which knows no space and no optimizer.

    Raises:
        GenomeError: every mistake that the file alone can show.
    """
    source = read_source(path, overrides)
    found: list[Problem] = []
    try:
        genome = validate_genome(source)
    except GenomeError as mistakes:
        found += mistakes.problems
    found += [*_of_space(source), *_of_optimizer(source)]
    if found:
        raise GenomeError.of(in_order(found))
    return genome, source


def examine_file(
    path: Path,
    overrides: Sequence[str] = (),
    permissions: Permissions | None = None,
    run_dir_of: Callable[[Path, Genome], Path] | None = None,
) -> Examination:
    """Finds everything that a genome file and the files it names can show; raises nothing.

    Models and tasks are looked at only where the file itself has no mistake.

    Args:
        path: The genome file.
        overrides: ``key.path=value`` texts that win over it.
        permissions: What the user allows.
        run_dir_of: Where the run of a genome file would be kept.
    """
    try:
        genome, source = read_genome(path, overrides)
    except GenomeError as mistakes:
        return Examination(tuple(error(p.what, p.where, p.fix) for p in mistakes.problems))
    run_dir = None if run_dir_of is None else run_dir_of(path, genome)
    examination = examine(genome, source, permissions or Permissions(), run_dir)
    if run_dir is None:
        return examination
    compiled = examination.compiled
    data = source.data if compiled is None else compiled.source.data
    refused = refusal(RunFolder(run_dir), data, compiled)
    if not refused:
        return examination
    return Examination((*(error(p.what, p.where, p.fix) for p in refused), *examination.findings))


def _of_space(source: Source) -> list[Problem]:
    """Mistakes that only the merge space itself knows, where its block has no others."""
    try:
        definition = MergeDefinition.model_validate(source.data.get("genome"))
    except ValidationError:
        return []
    return space_problems(definition, source)


def _of_optimizer(source: Source) -> list[Problem]:
    """Mistakes that only the optimizer itself knows; nothing is imported for the default one."""
    data, tasks = source.data, source.data.get("tasks")
    n_losses = len(tasks) if data.get("objective") == "per_task" and isinstance(tasks, list) else 1
    if "optimizer" not in data and n_losses == 1:
        return []
    return optimizer_problems(_sound_block(data.get("optimizer")), n_losses, source)


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

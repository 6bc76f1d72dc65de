"""A genome file, with every mistake in it, or everything it stands for, in one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evomerge.compiler.compiled import Examination
from evomerge.compiler.genome_file import Stage, read_genomes
from evomerge.compiler.identity import refusal
from evomerge.compiler.staged_run import StagedRun
from evomerge.foundations.errors import EvomergeError, GenomeError, Problem
from evomerge.foundations.findings import error
from evomerge.foundations.permissions import Permissions
from evomerge.genome.schema import Genome
from evomerge.run.ledger.run_folder import RunFolder


def examine_stages(
    path: Path,
    overrides: Sequence[str],
    permissions: Permissions | None,
    run_dir_of: Callable[[Path, Genome], Path],
) -> tuple[Examination, ...]:
    """Finds everything that a genome file and the files it names can show; raises nothing.

    Models and tasks are looked at only where the file itself has no mistake.

    Args:
        path: The genome file.
        overrides: ``key.path=value`` texts that win over it.
        permissions: What the user allows.
        run_dir_of: Where the run of a genome file would be kept.

    Returns:
        One per search of the file; a single one where the file has mistakes.
    """
    try:
        file = read_genomes(path, overrides)
    except GenomeError as mistakes:
        return (Examination(tuple(error(p.what, p.where, p.fix) for p in mistakes.problems)),)
    run = StagedRun(file, run_dir_of(path, file.genome), permissions)
    first, *later = map(_with_refusal, run.stages, map(run.run_dir, run.stages), run.examinations)
    try:
        run.refuse_folder()
    except EvomergeError as refused:
        first = _refused(first, refused.problems)
    return (first, *later)


def _with_refusal(stage: Stage, run_dir: Path, found: Examination) -> Examination:
    """The same with why the run in its folder would not go on."""
    compiled = found.compiled
    data = stage.source.data if compiled is None else compiled.source.data
    if compiled is not None and any(model.is_foreseen for model in compiled.context.models):
        compiled = None  # nobody can read what is yet to be built, or was deleted since
    return _refused(found, refusal(RunFolder(run_dir), data, compiled))


def _refused(found: Examination, problems: Sequence[Problem]) -> Examination:
    if not problems:
        return found
    told = (error(p.what, p.where, p.fix) for p in problems)
    return Examination((*told, *found.findings), stage=found.stage)

"""A genome file, with every mistake in it, or everything it stands for, in one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evomerge.compiler.compiled import Examination
from evomerge.compiler.examine import examine
from evomerge.compiler.file_mistakes import genome_of
from evomerge.compiler.identity import refusal
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.findings import error
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import read_source
from evomerge.genome.schema import Genome
from evomerge.genome.yaml_file import YamlFile
from evomerge.run.ledger.run_folder import RunFolder


def read_genome(path: Path, overrides: Sequence[str] = ()) -> tuple[Genome, YamlFile]:
    """As :func:`evomerge.genome.load.load_genome`, which knows none of the tables.

    Raises:
        GenomeError: every mistake that the file alone can show.
    """
    source = read_source(path, overrides)
    return genome_of(source), source


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

"""A compiled genome and a run folder -> the search: new, or the one that was begun there."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evomerge import __version__
from evomerge.compiler.examine import Compiled
from evomerge.errors import GenomeError
from evomerge.executors import EXECUTORS
from evomerge.executors.base import Executor
from evomerge.files import digest
from evomerge.findings import Severity
from evomerge.genome.load import to_yaml
from evomerge.ledger import Ledger, RunFolder
from evomerge.merge_spaces.baselines import baselines
from evomerge.provenance import versions
from evomerge.search import Limits, Search
from evomerge.space import to_data


def search_for(compiled: Compiled, run_dir: Path) -> Search:
    """The run of a compiled genome in a folder; one that holds trials is continued.

    Raises:
        LedgerError: the folder holds another run.
    """
    genome, objectives = compiled.genome, compiled.tasks.objectives
    return Search(
        merge_space=compiled.merge_space,
        optimizer=compiled.optimizer,
        objective=objectives["tasks"],
        executor=_executor(compiled),
        ledger=_ledger(compiled, RunFolder(run_dir)),
        baselines=baselines(compiled.merge_space),
        limits=Limits(genome.optimizer.budget, genome.optimizer.patience, genome.optimizer.timeout),
        finals={split: o for split, o in objectives.items() if split != "tasks"},
        warnings=[str(f) for f in compiled.findings if f.severity is Severity.WARNING],
    )


def _executor(compiled: Compiled) -> Executor:
    workers, tasks = compiled.genome.execution.workers, compiled.tasks
    if workers == 1:
        return EXECUTORS["serial"](partial(tasks.workshop, tasks.evaluators))
    return EXECUTORS["processes"](tasks.workshop, workers)


def _ledger(compiled: Compiled, folder: RunFolder) -> Ledger:
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

    workshop = compiled.tasks.workshop
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

"""Where the trials of a compiled genome run, and how its workers are built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evomerge.compiler.compiled import Compiled, all_models
from evomerge.compiler.identity import Header
from evomerge.compiler.recorded_genome import dtype_of
from evomerge.evaluators.base import Evaluator
from evomerge.executors import EXECUTORS
from evomerge.executors.base import Executor, built
from evomerge.executors.own_settings import executor_settings
from evomerge.executors.worker import Worker
from evomerge.executors.worker_factory import WorkerFactory
from evomerge.models.fingerprint import folder_digest, folders_of


def executor_for(compiled: Compiled, header: Header, run_dir: Path) -> Executor:
    """Where trials run."""
    execution, kind = (
        compiled.genome.execution,
        EXECUTORS[compiled.genome.execution.chosen_executor],
    )
    factory = worker_factory_for(compiled, header, run_dir)
    make_worker = FirstWith(factory, compiled.tasks.evaluators) if kind.runs_here else factory
    settings = executor_settings(execution)
    return kind(make_worker, execution.workers, execution.trial_timeout, settings)


def worker_here(compiled: Compiled, header: Header, run_dir: Path, device: str | None) -> Worker:
    """A worker in this process beside those of the executor; device None: that of the run.

    Raises:
        RunError: it cannot be built.
    """
    factory = worker_factory_for(compiled, header, run_dir)
    factory = replace(factory, device=device or factory.device)
    return built(FirstWith(factory, compiled.tasks.evaluators))


def worker_factory_for(compiled: Compiled, header: Header, run_dir: Path) -> WorkerFactory:
    """How workers are built: threads and dtype as the run began, on whatever machine it goes on."""
    execution = compiled.genome.execution
    folders = [folder for model in all_models(compiled.genome) for folder in folders_of(model)]
    settings = executor_settings(execution)
    copied = folders if settings.copies_in else []
    return replace(
        compiled.tasks.worker_factory.passing_in(dtype_of(header, compiled.genome)),
        threads=header["threads"],
        folders=tuple(folders),
        run_dir=run_dir.absolute(),  # workers may be in other folders
        made=dict(compiled.context.made),  # it is pickled for worker processes
        identities=header["tasks"],
        n_sharing=settings.sharing(execution.workers),
        copies_in=settings.copies_in,
        copied={str(folder): folder_digest(folder) for folder in copied},
    )


class FirstWith:
    """Builds workers, the first one with what was loaded already.

    A later one takes the place of a worker that was interrupted: its tasks may be in any state.
    """

    def __init__(self, worker_factory: WorkerFactory, evaluators: Mapping[str, Evaluator]) -> None:
        self._later = worker_factory
        self._loaded: Mapping[str, Evaluator] | None = evaluators

    def __call__(self) -> Worker:
        """The next one."""
        loaded, self._loaded = self._loaded, None
        return self._later(loaded)

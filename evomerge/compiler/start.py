"""A compiled genome and a run folder -> the search: new, or the one that was begun there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.checks.search_size import picked, uncompared
from evomerge.checks.unknown_methods import unknown_method
from evomerge.compiler.chosen_space import told
from evomerge.compiler.compiled import Compiled
from evomerge.compiler.first_scored import first_documents, settled
from evomerge.compiler.fork import carried, fork
from evomerge.compiler.identity import Header, header_of, other_run, what_changed
from evomerge.compiler.larger_limits import larger_limits
from evomerge.compiler.make_executor import (
    FirstWith,
    executor_for,
    worker_factory_for,
    worker_here,
)
from evomerge.compiler.make_optimizer import optimizer_for
from evomerge.compiler.make_trainer import trainer_maker
from evomerge.compiler.recorded_genome import (
    dtype_of,
    genome_digest,
    is_of,
    stored_genome,
    workers_of,
)
from evomerge.compiler.split_tasks import Names
from evomerge.evaluators.base import Evaluator
from evomerge.executors.base import Executor
from evomerge.foundations.files import write_missing
from evomerge.foundations.findings import Severity
from evomerge.foundations.reading import is_there
from evomerge.foundations.scratch import scratch
from evomerge.genome.load import to_yaml
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.schema import Genome
from evomerge.merge_spaces.baselines import baselines
from evomerge.merge_spaces.names import short_names
from evomerge.models.pass_dtype import reason
from evomerge.nouns.events import Notice, Preparing, Proposing, Warned
from evomerge.nouns.trial import Candidate, Trial
from evomerge.optimizers.search_context import Brief, SearchContext
from evomerge.run.ledger.artifact_store import ArtifactStore
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.lines import KnownOutcome
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.staged_folder import begun_stages, whole_folder
from evomerge.run.limits import Limits
from evomerge.run.search import Search
from evomerge.trackers.feed import Feed, targets_of

Hear = Callable[[Preparing | Proposing | Notice | Warned], None]


def search_for(
    compiled: Compiled,
    run_dir: Path,
    fork_dir: Path | None = None,
    hear: Hear | None = None,
    *,
    is_strict: bool = False,
) -> Search:
    """The run of a compiled genome in a folder; one that holds trials is continued.

    Args:
        compiled: What is searched.
        run_dir: The run folder.
        fork_dir: A folder for a run that takes over what is still true in ``run_dir``; once it
            has begun there, it is continued.
        hear: Takes what happens between two events of the run.
        is_strict: Whether a task that cannot steer ends the run after the baselines.

    Raises:
        LedgerError: the folder holds another run, or is being written.
        LostFileError: the folder cannot be written.
    """
    hear = hear or _deaf
    header = header_of(compiled, lambda activity, share: hear(Preparing(activity, share)))
    target = RunFolder(fork_dir or run_dir)
    if is_there(target.ledger):
        ledger, notes = _continued(compiled, header, target)
        compiled = settled(compiled, ledger.header.get("metrics", {}))
        executor = executor_for(compiled, ledger.header, target.path)
    else:
        hear(Preparing("scoring one document of every task"))
        folders = RunFolder(run_dir), fork_dir
        compiled, executor, ledger, notes = _begun(compiled, header, target.path, folders)
    genome, objectives = compiled.genome, compiled.tasks.objectives
    limits, seeds = genome.optimizer, _seeds(compiled, ledger)
    searches: list[Search] = []  # a trainer asks it for the trials that are over
    context = _context(compiled, ledger, executor, seeds, hear, searches)
    search = Search(
        merge_space=compiled.merge_space,
        optimizer=optimizer_for(
            compiled.choice,
            _as_it_began(genome, ledger),
            compiled.merge_space.space,
            context,
            asked_at_once=_asked_at_once(ledger, workers_of(ledger)),
        ),
        objective=objectives["tasks"],
        executor=executor,
        ledger=ledger,
        baselines=[*_baselines(compiled), *seeds],
        limits=Limits(limits.budget, limits.patience, limits.timeout, genome.finalists),
        finals={split: o for split, o in objectives.items() if split != "tasks"},
        warnings=[str(f) for f in compiled.findings if f.severity is Severity.WARNING],
        notes=[*notes, *_notes(compiled, ledger.header)],
        is_strict=is_strict,
        trackers=[Feed(ledger, genome, genome.trackers)],
    )
    searches.append(search)
    return search


def _baselines(compiled: Compiled) -> list[Candidate]:
    return baselines(compiled.merge_space, compiled.genome.baselines)


def _seeds(compiled: Compiled, ledger: Ledger) -> list[Candidate]:
    """The merges tried first: as recorded, whatever the run they are from has found since."""
    now = {seed.trial_id: seed for seed in compiled.context.seeds}
    recorded = (trial.candidate for trial in ledger.trials.values())
    then = {c.trial_id: c for c in recorded if c.is_seed}
    return [seed for _, seed in sorted({**now, **then}.items())]


def _as_it_began(genome: Genome, ledger: Ledger) -> Genome:
    """With as many workers as the run began with, for who asks for a trial for each of them."""
    execution = genome.execution.model_copy(update={"workers": workers_of(ledger)})
    return genome.model_copy(update={"execution": execution})


def _asked_at_once(ledger: Ledger, workers: int) -> int | None:
    """Trials of the first ask of the optimizer; None where there was none.

    Older versions asked for one per worker and wrote down when all were over: trials of an ask
    without any such line are theirs.
    """
    asked = (ids for ids in ledger.told if not ledger.trials[ids[0]].candidate.is_baseline)
    first = next(asked, None)
    if first is not None:
        return len(first)
    is_proposed = any(not one.candidate.is_baseline for one in ledger.trials.values())
    return workers if is_proposed and len(ledger.order) == len(ledger.told) else None


def _deaf(event: Preparing | Proposing | Notice | Warned) -> None:
    """Nobody wants to know."""


def _context(
    compiled: Compiled,
    ledger: Ledger,
    executor: Executor,
    seeds: Sequence[Candidate],
    hear: Hear,
    searches: Sequence[Search],
) -> SearchContext:
    """What the optimizer may know and use; of the search, once it has begun."""

    def say(activity: str, share: float) -> None:
        hear(Proposing(activity, share))

    def history() -> Sequence[Trial]:
        return searches[0].leaderboard.trials

    merge_space, definition = compiled.merge_space, compiled.genome.genome
    models, base = shown_models(definition)
    brief = Brief(
        models=models,
        base=base,
        merge_method=definition.merge_method,
        tasks=tuple(map(str, compiled.tasks.objectives["tasks"].keys)),
        weights={task.name: float(task.weight) for task in compiled.genome.tasks},
    )
    artifacts = ArtifactStore(ledger.folder)
    begun = [seed.genotype for seed in seeds if seed.genotype is not None]
    here = partial(worker_here, compiled, ledger.header, ledger.folder.path)
    trainers = trainer_maker(compiled, executor, here, ledger, history, hear)
    context = SearchContext(
        experts=merge_space.experts(),
        seeds=np.stack(begun) if begun else None,
        places=merge_space.places(),
        has_shares=merge_space.has_shares(),
        brief=brief,
        artifacts=artifacts,
        trainer=trainers,
        folder=ledger.folder.path,
        say=say,
        notify=lambda message: hear(Notice(message)),
    )
    return context if trainers is None else replace(context, end_training=trainers.end)


def shown_models(definition: MergeDefinition) -> tuple[tuple[str, ...], str]:
    """The models as parameters name them, and the base: folders of this machine stay here."""
    models, base = tuple(source.model for source in definition.models), definition.base_model
    names = short_names(models)
    if base is None:
        return tuple(names), ""
    own = dict(zip(models, names, strict=True))
    return tuple(names), own.get(base) or short_names((*models, base))[-1]


def _tried(
    compiled: Compiled, executor: Executor, header: Header, run_dir: Path
) -> tuple[Compiled, Names]:
    """One document of every task is scored, and the executor goes on with what was loaded.

    Returns:
        The same with the metrics' names, and those that were found.
    """
    space = compiled.merge_space
    candidates = baselines(space, ("models", "base", "average"))
    loaded: Mapping[str, Evaluator] | None = None
    if any(space.files(candidate.point) for candidate in candidates):
        # The run folder, where these belong, is not there before the run is.
        with scratch() as folder:
            for candidate in candidates:
                write_missing(folder, space.files(candidate.point))
            elsewhere = executor_for(compiled, header, folder)
            with closing(elsewhere):
                names = first_documents(compiled, elsewhere, candidates)
            if names and elsewhere.runs_here:
                loaded = elsewhere.worker.evaluators
    else:
        names = first_documents(compiled, executor, candidates)
    compiled = settled(compiled, names)
    factory = worker_factory_for(compiled, header, run_dir)
    if not names:  # its workers know none, and may be in any state
        executor.close()
        executor.forget_workers()
    executor.make_worker = FirstWith(factory, loaded) if loaded else factory
    return compiled, names


def _begun(
    compiled: Compiled, header: dict[str, Any], path: Path, folders: tuple[RunFolder, Path | None]
) -> tuple[Compiled, Executor, Ledger, list[str]]:
    """A run that begins: what its first documents told is known, and in its ledger."""
    executor, before = executor_for(compiled, header, path), compiled.findings
    with ExitStack() as undo:
        undo.callback(executor.close)
        compiled, names = _tried(compiled, executor, header, path)
        if names:
            header["metrics"] = names
        header["genome_digest"] = genome_digest(compiled.source.data)
        ledger, notes = _new(compiled, header, *folders)
        undo.pop_all()
    late = [one for one in compiled.findings if one not in before]
    told = [str(one.problem) for one in late if one.severity is Severity.NOTE]
    return compiled, executor, ledger, [*notes, *told]


def _new(
    compiled: Compiled, header: Header, folder: RunFolder, fork_dir: Path | None
) -> tuple[Ledger, list[str]]:
    """The ledger to write, and what its user should know of it."""
    if fork_dir is not None:
        forked = fork(compiled, header, folder, RunFolder(fork_dir))
        return forked.ledger, [forked.note]
    known, mirrors = _before(compiled, header), targets_of(compiled.genome.trackers)
    return Ledger.create(folder, header, to_yaml(compiled.source), known, mirrors), []


def _before(compiled: Compiled, header: Header) -> list[KnownOutcome]:
    """What the stages before it found of the models that a stage begins with."""
    if not compiled.context.made or compiled.context.run_dir is None:
        return []
    begun = begun_stages(whole_folder(compiled.context.run_dir))
    ledgers = (Ledger.open(folder, read_only=True) for folder in begun)
    found = (entry for ledger in ledgers for entry in carried(compiled, header, ledger))
    return [*{(entry.split, entry.digest): entry for entry in found}.values()]


def _continued(compiled: Compiled, header: Header, folder: RunFolder) -> tuple[Ledger, list[str]]:
    ledger = Ledger.open(folder)
    changes = what_changed(ledger, header, compiled)
    limits = larger_limits(ledger, compiled.source, compiled.context)
    if changes:
        ledger.close()
        raise other_run(folder, changes)
    longer = [limits.record(ledger, compiled.source)] if limits is not None else []
    if ledger.extensions and not is_of(ledger, stored_genome(ledger)):  # killed in between
        ledger.keep_genome(to_yaml(compiled.source))
    return ledger, [*ledger.repairs, *longer, *_machine_notes(ledger.header, header)]


def _notes(compiled: Compiled, header: Header) -> list[str]:
    """What a check notes and whoever only runs should know too."""
    context = compiled.context
    found = (*picked(context), *uncompared(context), *unknown_method(context))
    unseen = [finding.problem.what for finding in found]
    space = told(compiled.genome.genome)
    return [*_pass_notes(compiled, header), *([space] if space else []), *unseen]


def _pass_notes(compiled: Compiled, header: Header) -> list[str]:
    """In which dtype forward passes are made, where the genome does not say."""
    then, now = dtype_of(header, compiled.genome), compiled.tasks.worker_factory.settings.dtype
    if compiled.genome.evaluation.dtype is not None:
        return []
    if then != now:
        return [f"forward passes in {then or 'the dtype of the models'}, as the run began"]
    if now is None:
        return []
    return [f"forward passes in {now}: {reason(compiled.merge_space.out_dtype)}"]


def _machine_notes(then: Header, now: Header) -> list[str]:
    """What may change the last digits of scores, where a run goes on elsewhere."""
    before = then.get("machine", now["machine"])
    return [
        f"{key} is {value}, the run began with {before.get(key)}: the last digits of scores may "
        "differ"
        for key, value in now["machine"].items()
        if value != before.get(key)
    ]

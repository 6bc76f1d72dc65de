"""A genome against its models, tasks and machine: everything that files can show, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from evomerge.checks.context import CheckContext
from evomerge.checks.reference_model import reference_of
from evomerge.checks.rules import RULES, of_models
from evomerge.compiler.auto_choice import with_auto
from evomerge.compiler.chosen_space import with_space
from evomerge.compiler.compiled import Compiled, Examination, named_models, tasks_together
from evomerge.compiler.directions import turned
from evomerge.compiler.known_method import with_method
from evomerge.compiler.make_optimizer import (
    OptimizerChoice,
    chosen_optimizer,
    deaf_islands,
    obstacles,
    oddities,
    optimizer_for,
)
from evomerge.compiler.recorded_genome import (
    has_begun,
    recorded_names,
    recorded_space,
    with_its_baselines,
)
from evomerge.compiler.seeds import seeds_of
from evomerge.compiler.split_tasks import LoadedTasks, load_tasks, untold, with_names
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.findings import Finding, Severity, note, problems, warning
from evomerge.foundations.findings import error as error_finding
from evomerge.foundations.permissions import Permissions
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.genome.yaml_file import YamlFile
from evomerge.merge_spaces import merge_space_for
from evomerge.merge_spaces.base import MergeSpace
from evomerge.models.alike import alike
from evomerge.models.architecture import Architecture
from evomerge.models.facts import ModelFacts
from evomerge.models.inspect import read_model
from evomerge.models.merge_dtype import common_dtype
from evomerge.models.pass_dtype import pass_dtype
from evomerge.models.shared_layers import describe, describe_apart
from evomerge.nouns.trial import Candidate
from evomerge.optimizers.base import Optimizer
from evomerge.recipe.kept_stages import Made

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

T = TypeVar("T")


def compile_genome(
    genome: Genome,
    source: YamlFile,
    permissions: Permissions | None = None,
    run_dir: Path | None = None,
    made: Made = MappingProxyType({}),
) -> Compiled:
    """Checks a genome against its models and tasks; see :func:`examine`.

    Raises:
        GenomeError: every mistake found, with file, line and key.
    """
    return examine(genome, source, permissions or Permissions(), run_dir, made).sound


def examine(
    genome: Genome,
    source: YamlFile,
    permissions: Permissions,
    run_dir: Path | None = None,
    made: Made = MappingProxyType({}),
    foreseen: Mapping[ModelName, ModelFacts | None] = MappingProxyType({}),
) -> Examination:
    """Finds everything that files can show; raises nothing for a user's mistake.

    Args:
        genome: What is to be searched.
        source: Its file.
        permissions: What the user allows.
        run_dir: Where the run would be kept.
        made: Folders of models among its own that earlier stages made, and how.
        foreseen: Models among its own that are yet to be made, and what they will be like.
    """
    found = _Findings(source)
    found.add(warning(p.what, p.where, p.fix) for p in source.ignored)
    known = found.attempt(lambda: with_space(with_method(genome, permissions), source))
    if known is None:
        return Examination(found.in_order)
    genome, source, tasks = _with_tasks(known, source, permissions, run_dir, found)
    is_begun = has_begun(run_dir, source.data)
    if run_dir is not None and is_begun:
        genome = with_its_baselines(genome, run_dir)
    models, has_errors = _models(genome, permissions, found, foreseen)
    context = CheckContext(genome, permissions, models, made=made, run_dir=run_dir)
    choice = found.attempt(lambda: chosen_optimizer(genome, source))
    merge_space = tokenizer = None
    if not has_errors:
        merge_space = found.attempt(
            lambda: merge_space_of(genome, models, choice, run_dir, found, made)
        )
        tokenizer = found.attempt(lambda: _tokenizer(context))
    # A run that has begun has its seeds in its ledger: their files may be gone since.
    seeds = _seeds(genome, merge_space, _Findings(source) if is_begun else found)
    found.add(error_finding(p.what, p.where, p.fix) for p in tasks.problems)
    if merge_space is not None and genome.evaluation.dtype is None:
        tasks.pass_in(pass_dtype(merge_space.out_dtype, tasks.worker_factory.device))
    context = replace(
        context,
        merge_space=merge_space,
        seeds=seeds,
        evaluators=tasks.evaluators,
        device=tasks.worker_factory.device,
        dtype=tasks.worker_factory.settings.dtype,
        tokenizer=tokenizer[0] if tokenizer else None,
        config=tokenizer[1] if tokenizer else None,
    )
    if choice is not None:
        context, choice = _with_optimizer(context, choice, found, run_dir if is_begun else None)
    for rule in RULES:
        found.add(rule(context))
    findings = found.in_order
    if merge_space is None or choice is None or problems(findings, Severity.ERROR):
        return Examination(findings)
    compiled = Compiled(context, source, merge_space, choice, tasks, findings)
    return Examination(findings, compiled)


def _with_tasks(
    genome: Genome,
    source: YamlFile,
    permissions: Permissions,
    run_dir: Path | None,
    found: _Findings,
) -> tuple[Genome, YamlFile, LoadedTasks]:
    """With its tasks, and the directions that only results of a run that has begun told."""
    tasks = load_tasks(genome, permissions)
    if not source.is_evolve:
        return genome, source, tasks
    names = untold(tasks, recorded_names(run_dir))
    now = turned(genome, source, with_names(tasks, names) if names else tasks)
    found.add(iter(now.notes))
    return now.genome, now.source, now.tasks


def _seeds(
    genome: Genome, merge_space: MergeSpace | None, heard: _Findings
) -> tuple[Candidate, ...]:
    if merge_space is None:
        return ()
    space = merge_space
    seeds = heard.attempt(lambda: seeds_of(genome, space, lambda one: heard.add(iter((one,)))))
    return tuple(seeds or ())


def _with_optimizer(
    context: CheckContext, choice: OptimizerChoice, found: _Findings, begun_in: Path | None
) -> tuple[CheckContext, OptimizerChoice | None]:
    """With who will propose; what `auto` stands for is what it stood for where the run began."""
    picked = found.attempt(lambda: with_auto(context, choice, begun_in))
    if picked is None:
        return context, None
    context, choice = picked
    is_begun = begun_in is not None
    optimizer = _fitting_optimizer(context, choice, found, is_begun=is_begun)
    return replace(context, optimizer=optimizer), choice


def _fitting_optimizer(
    context: CheckContext, choice: OptimizerChoice, found: _Findings, *, is_begun: bool
) -> Optimizer | None:
    """The optimizer, None where something keeps it from searching the space.

    A run of this very genome may be finished, or go on without what is missing now.
    """
    genome, merge_space = context.genome, context.merge_space
    if merge_space is None:
        return None
    in_the_way = obstacles(choice, genome, merge_space.space)
    report = warning if is_begun else error_finding
    found.add(report(p.what, p.where, p.fix) for p in in_the_way)
    if in_the_way and not is_begun:
        return None
    found.add(warning(p.what, p.where, p.fix) for p in oddities(choice, genome, merge_space.space))
    found.add(note(p.what, p.where, p.fix) for p in deaf_islands(choice, genome.optimizer))
    return optimizer_for(choice, genome, merge_space.space)


class _Findings:
    """Collects findings, each with the file and line of its key."""

    def __init__(self, source: YamlFile) -> None:
        self.source = source
        self._found: list[Finding] = []

    def add(self, findings: Iterator[Finding]) -> None:
        for finding in findings:
            self._found.append(replace(finding, problem=self._located(finding)))

    def take(self, others: _Findings) -> None:
        """Adds what others have found."""
        self._found += others._found

    def attempt(self, step: Callable[[], T]) -> T | None:
        """What a step gives; None, and its problems among the findings, where it fails."""
        try:
            return step()
        except EvomergeError as error:
            self.add(error_finding(p.what, p.where, p.fix) for p in error.problems)
            return None

    def _located(self, finding: Finding) -> Any:
        problem = finding.problem
        is_located = not problem.where or self.source.is_located(problem.where)
        return problem if is_located else self.source.locate(problem)

    @property
    def has_errors(self) -> bool:
        return bool(problems(self._found, Severity.ERROR))

    @property
    def in_order(self) -> tuple[Finding, ...]:
        """Errors first; a finding that was made twice once."""
        unique = dict.fromkeys(self._found)
        return tuple(sorted(unique, key=lambda finding: finding.severity.rank))


def _models(
    genome: Genome,
    permissions: Permissions,
    found: _Findings,
    foreseen: Mapping[ModelName, ModelFacts | None],
) -> tuple[tuple[ModelFacts, ...], bool]:
    """The models that could be read, and whether any of them cannot be merged."""
    told = _Findings(found.source)
    read: list[ModelFacts | None] = []
    for name, key in named_models(genome):
        if name in foreseen or name.is_stage:
            like = foreseen.get(name)  # where nothing is, what makes it has mistakes of its own
            read.append(like and replace(like, key=key))
            continue
        is_allowed = name.text in permissions.pickle
        read.append(told.attempt(partial(read_model, name, key, may_unpickle=is_allowed)))
    models = tuple(model for model in read if model is not None)
    told.add(of_models(CheckContext(genome, permissions, models)))
    found.take(told)
    return models, told.has_errors or len(models) < len(read)


def merge_space_of(
    genome: Genome,
    models: Sequence[ModelFacts],
    choice: OptimizerChoice | None,
    run_dir: Path | None = None,
    found: _Findings | None = None,
    made: Made = MappingProxyType({}),
) -> MergeSpace:
    """What varies, in a box that all optimizers share: a wide one where any looks beyond models.

    Where a run has begun, the space that it began with.
    """
    definition, dtype = genome.genome, common_dtype(models)
    kind = merge_space_for(definition)
    architecture = describe_apart(models) if kind.mixes else describe(models)

    def space_with(alike_in: Architecture) -> MergeSpace:
        space = kind(definition, alike_in, dtype, tasks_together(genome))
        is_wide = choice and any(chosen.kind.looks_beyond_models for chosen in choice)
        space = space.beyond_models() if is_wide else space
        space.made = made
        return space

    names = [ModelName.model_validate(model.reference) for model in models]
    is_permuted = bool(definition.tokenizer or definition.tokenizer_source)
    equal = {
        tensor: {names[index]: number for index, number in numbers.items()}
        for tensor, numbers in alike(models, is_permuted=is_permuted).items()
    }
    merge_space = space_with(replace(architecture, alike=equal))
    if not merge_space.idle:
        return merge_space
    whole = space_with(architecture)
    if not merge_space.space.n_dims:
        report = error_finding if recorded_space(run_dir) is None else warning
        if found is not None:
            why = _nothing_moves(merge_space.architecture, names, made)
            found.add(iter([report(*why)]))
        return whole
    # It may have begun before the models' files were here.
    return whole if recorded_space(run_dir) == whole.space else merge_space


def _nothing_moves(
    architecture: Architecture, names: Sequence[ModelName], made: Made
) -> tuple[str, str, str]:
    """Why nothing that is searched changes anything: what is wrong, its key and what to do."""
    if architecture.agree(names, architecture.tensors):
        what = (
            f"all models are the same: {', '.join(map(str, names[:-1]))} and {names[-1]} hold "
            "equal tensors, and every merge is one of them"
        )
        fix = "Merge models that differ."
        if any(name.path in made for name in names):
            fix = (
                "The stage before found nothing better: give it more trials with "
                "--fork NEW_RUN, or name other models here."
            )
        return what, "genome.models", fix
    what = "nothing that is searched acts on a tensor in which the models differ"
    return what, "genome", "Search parameters where they differ, or merge others."


def _tokenizer(context: CheckContext) -> tuple[PreTrainedTokenizerBase, PreTrainedConfig] | None:
    from evomerge.models.vocabulary import load_tokenizer  # loads torch; a wrong genome must not

    reference = reference_of(context)
    if reference is None:
        return None
    permissions = context.permissions
    return load_tokenizer(reference, trust_remote_code=permissions.trust_remote_code)

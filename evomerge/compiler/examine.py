"""A genome against its models, tasks and machine: everything that files can show, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evomerge.architecture import Architecture
from evomerge.compiler.optimizer import chosen_optimizer, optimizer_for
from evomerge.compiler.tasks import LoadedTasks, load_tasks
from evomerge.errors import EvomergeError, GenomeError
from evomerge.findings import Finding, Severity, problems
from evomerge.findings import error as error_finding
from evomerge.genome.schema import Genome
from evomerge.genome.source import Source
from evomerge.merge_spaces import merge_space_for
from evomerge.merge_spaces.base import MergeSpace
from evomerge.optimizers.base import Optimizer
from evomerge.permissions import Permissions
from evomerge.preflight import MODEL_RULES, RULES
from evomerge.preflight.subject import Subject

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

T = TypeVar("T")


@dataclass(frozen=True)
class Compiled:
    """A genome that fits its models and tasks: everything the files can show has been checked.

    Attributes:
        subject: The genome and what its files say.
        source: The genome file with its lines.
        merge_space: What varies, and what it means.
        optimizer: Who will propose.
        tasks: What judges.
        findings: Warnings and notes.
    """

    subject: Subject
    source: Source
    merge_space: MergeSpace
    optimizer: Optimizer
    tasks: LoadedTasks
    findings: tuple[Finding, ...] = ()

    @property
    def genome(self) -> Genome:
        """The genome file as an object."""
        return self.subject.genome


@dataclass(frozen=True)
class Examination:
    """What came of a check.

    Attributes:
        findings: Everything found: errors first, each kind in the order of the file.
        compiled: What a run needs; None where there are errors.
    """

    findings: tuple[Finding, ...]
    compiled: Compiled | None = None

    @property
    def has_errors(self) -> bool:
        """Whether a run could not begin."""
        return self.compiled is None


def compile_genome(
    genome: Genome,
    source: Source,
    permissions: Permissions | None = None,
    run_dir: Path | None = None,
) -> Compiled:
    """Checks a genome against its models and tasks.

    Raises:
        GenomeError: every mistake found, with file, line and key.
    """
    examination = examine(genome, source, permissions or Permissions(), run_dir)
    if examination.compiled is None:
        raise GenomeError.of(problems(examination.findings, Severity.ERROR))
    return examination.compiled


def examine(
    genome: Genome, source: Source, permissions: Permissions, run_dir: Path | None = None
) -> Examination:
    """Finds everything that files can show; raises nothing for a user's mistake."""
    found = _Findings(source)
    subject = Subject(genome, permissions, run_dir=run_dir)
    choice = found.attempt(lambda: chosen_optimizer(genome, source))
    architecture = found.attempt(lambda: _architecture(genome, permissions))
    for rule in MODEL_RULES:
        found.add(rule(subject))
    merge_space = None
    if architecture is not None and not found.has_errors_in_models:
        merge_space = found.attempt(lambda: _merge_space(genome, architecture, permissions))
    optimizer = None
    if merge_space is not None and choice is not None:
        optimizer = optimizer_for(choice, genome, merge_space.space)
    tasks = load_tasks(genome, permissions)
    found.add(error_finding(p.what, p.where, p.fix) for p in tasks.problems)
    tokenizer = None
    if architecture is not None:
        tokenizer = found.attempt(lambda: _tokenizer(genome, permissions))
    subject = replace(
        subject,
        merge_space=merge_space,
        optimizer=optimizer,
        evaluators=tasks.evaluators,
        device=tasks.workshop.device,
        tokenizer=tokenizer[0] if tokenizer else None,
        config=tokenizer[1] if tokenizer else None,
    )
    for rule in RULES:
        found.add(rule(subject))
    findings = found.in_order
    if merge_space is None or optimizer is None or problems(findings, Severity.ERROR):
        return Examination(findings)
    compiled = Compiled(subject, source, merge_space, optimizer, tasks, findings)
    return Examination(findings, compiled)


class _Findings:
    """Collects findings, each with the file and line of its key."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: list[Finding] = []

    def add(self, findings: Iterator[Finding]) -> None:
        for finding in findings:
            self._found.append(replace(finding, problem=self._located(finding)))

    def attempt(self, step: Callable[[], T]) -> T | None:
        """What a step gives; None, and its problems among the findings, where it fails."""
        try:
            return step()
        except EvomergeError as error:
            self.add(error_finding(p.what, p.where, p.fix) for p in error.problems)
            return None

    def _located(self, finding: Finding) -> Any:
        problem = finding.problem
        is_located = not problem.where or problem.where.startswith(self._source.name)
        return problem if is_located else self._source.locate(problem)

    @property
    def has_errors_in_models(self) -> bool:
        return bool(problems(self._found, Severity.ERROR))

    @property
    def in_order(self) -> tuple[Finding, ...]:
        """Errors first; a finding that was made twice once."""
        unique = dict.fromkeys(self._found)
        return tuple(sorted(unique, key=lambda finding: finding.severity.rank))


def all_models(genome: Genome) -> list[Any]:
    """Every model of a genome as a recipe names it, the base last."""
    named = [source.model for source in genome.genome.models]
    base = genome.genome.base_model
    return [m.in_recipe for m in (*named, *([base] if base and base not in named else []))]


def _architecture(genome: Genome, permissions: Permissions) -> Architecture:
    from evomerge.merging.describe import describe  # loads torch; a wrong genome must not

    return describe(all_models(genome), trust_remote_code=permissions.trust_remote_code)


def _merge_space(
    genome: Genome, architecture: Architecture, permissions: Permissions
) -> MergeSpace:
    from evomerge.merging.dtype import common_dtype

    models: Sequence[Any] = all_models(genome)
    _check_tokenizers(genome, models)
    dtype = common_dtype(models, trust_remote_code=permissions.trust_remote_code)
    return merge_space_for(genome.genome)(genome.genome, architecture, dtype)


def _check_tokenizers(genome: Genome, models: Sequence[Any]) -> None:
    definition = genome.genome
    if definition.tokenizer is not None or definition.tokenizer_source is not None:
        return
    from evomerge.merging.vocabulary import tokenizers_differ

    difference = tokenizers_differ(models)
    if difference:
        raise GenomeError(
            difference,
            where="genome.models",
            fix="Set tokenizer_source: base (the base's vocabulary) or union (all tokens).",
        )


def _tokenizer(
    genome: Genome, permissions: Permissions
) -> tuple[PreTrainedTokenizerBase, PreTrainedConfig]:
    from evomerge.merging.vocabulary import load_tokenizer

    return load_tokenizer(all_models(genome)[-1], trust_remote_code=permissions.trust_remote_code)

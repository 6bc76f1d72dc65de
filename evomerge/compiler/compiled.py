"""A genome that fits its models and tasks: what a run is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evomerge.checks.context import CheckContext
from evomerge.compiler.make_optimizer import OptimizerChoice
from evomerge.compiler.split_tasks import LoadedTasks
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.findings import Finding, Severity, problems
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.genome.words import FINAL_SPLITS
from evomerge.genome.yaml_file import YamlFile
from evomerge.merge_spaces.base import MergeSpace


@dataclass(frozen=True)
class Compiled:
    """A genome that fits its models and tasks: everything files can show has been checked.

    Attributes:
        context: The genome and what its files say.
        source: The genome file with its lines.
        merge_space: What varies, and what it means.
        choice: Who will propose.
        tasks: What judges.
        findings: Warnings and notes.
    """

    context: CheckContext
    source: YamlFile
    merge_space: MergeSpace
    choice: OptimizerChoice
    tasks: LoadedTasks
    findings: tuple[Finding, ...] = ()

    @property
    def genome(self) -> Genome:
        """The genome file as an object."""
        return self.context.genome


@dataclass(frozen=True)
class Examination:
    """What came of a check.

    Attributes:
        findings: Everything found: errors first, each kind in the order of the file.
        compiled: What a run needs; None where there are errors.
        stage: Which search of the file it is of; empty where that holds one.
    """

    findings: tuple[Finding, ...]
    compiled: Compiled | None = None
    stage: str = ""

    @property
    def sound(self) -> Compiled:
        """What a run needs.

        Raises:
            GenomeError: every error found, with file, line and key.
        """
        if self.compiled is None:
            raise GenomeError.of(problems(self.findings, Severity.ERROR))
        return self.compiled

    @property
    def has_errors(self) -> bool:
        """Whether a run could not begin."""
        return self.compiled is None


def named_models(genome: Genome) -> list[tuple[ModelName, str]]:
    """Every model with its key, the base last unless it is one of the models."""
    definition = genome.genome
    named = {source.model: f"genome.models[{i}]" for i, source in enumerate(definition.models)}
    if definition.base_model is not None:
        named.setdefault(definition.base_model, "genome.base_model")
    return list(named.items())


def tasks_together(genome: Genome) -> tuple[tuple[str, ...], ...]:
    """The name of each search task, and of those of other splits that judge the same.

    They have the same name; in a split with none of these names, the same place among as many.
    """
    own = [task.name for task in genome.tasks]
    found = [[name] for name in own]
    for split in FINAL_SPLITS:
        names = [task.name for task in genome.split(split)]
        if len(names) == len(own) and not {*names} & {*own}:
            for group, name in zip(found, names, strict=True):
                group.append(name)
    return tuple(map(tuple, found))


def all_models(genome: Genome) -> list[Any]:
    """Every model of a genome as a recipe names it, the base last unless it is one of them."""
    return [name.in_recipe for name, _ in named_models(genome)]

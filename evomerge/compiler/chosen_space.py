"""The merge space that a genome names, or that the rule picks, and what it cannot do."""

from __future__ import annotations

from dataclasses import replace

from pydantic import ValidationError

from evomerge.foundations.errors import GenomeError, Problem, UnknownNameError
from evomerge.genome.load import problems_of
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.schema import Genome
from evomerge.genome.yaml_file import YamlFile
from evomerge.merge_spaces import by_rule, merge_space_for

_BLOCK = ("genome", "space")


def with_space(genome: Genome, source: YamlFile) -> Genome:
    """A genome with the merge method of its space, where the file leaves that to it.

    Raises:
        GenomeError: no such space, or it cannot do what the genome asks.
    """
    found = space_problems(genome.genome, source)
    if found:
        raise GenomeError.of(found)
    settled = merge_space_for(genome.genome).settled(genome.genome)
    return genome.model_copy(update={"genome": settled})


def space_problems(definition: MergeDefinition, source: YamlFile) -> list[Problem]:
    """What its merge space cannot do of what a genome asks, all at once; needs no model."""
    try:
        kind = merge_space_for(definition)
    except UnknownNameError as error:
        where = (*_BLOCK, "name") if source.has((*_BLOCK, "name")) else _BLOCK
        return [replace(error.problems[0], where=source.where(where))]
    found = [
        Problem(str(misfit), source.where(("genome", *misfit.path)), misfit.fix)
        for misfit in kind.misfits(definition)
    ]
    try:
        kind.Settings.model_validate(definition.space.settings if definition.space else {})
    except ValidationError as error:
        beside = ("name", *sorted(kind.reads))
        found += problems_of(error, source, kind.Settings, _BLOCK, beside)
    return found


def told(definition: MergeDefinition) -> str | None:
    """One line for people where a rule picked the space; None where the genome names it."""
    if definition.space is not None:
        return None
    name, reason = by_rule(definition)
    return f"space {name} ({reason}; docs/genome.md has the rule)"

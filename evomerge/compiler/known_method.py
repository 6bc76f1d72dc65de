"""The merge method of a genome, registered by the packages that it names for that."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.foundations.errors import EvomergeError, GenomeError, Problem
from evomerge.foundations.permissions import Permissions
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.methods import method_named
from evomerge.genome.schema import Genome
from evomerge.genome.yaml_file import dotted


def with_method(genome: Genome, permissions: Permissions) -> Genome:
    """The same genome; its packages are imported, and it fits the method that they register.

    Raises:
        GenomeError: they may not or cannot be imported, or everything that does not fit.
    """
    definition = genome.genome
    if definition.merge_method_packages:
        from evomerge.merging.registered_methods import register_methods  # a package loads torch

        register_methods(definition.merge_method_packages, permissions, definition.merge_method)
        found = [*_misfits(definition)]
        if found:
            raise GenomeError.of(found)
    return genome


def _misfits(definition: MergeDefinition) -> Iterator[Problem]:
    """What nobody could hold against the method before it was known."""
    if definition.merge_method:
        try:
            method_named(definition.merge_method)
        except EvomergeError as error:
            (problem,) = error.problems
            listed = ", ".join(definition.merge_method_packages)
            fix = f"No package of {listed} registers it: mend the name, or name another package."
            yield Problem(problem.what, "genome.merge_method", fix)
    for one in definition.misfits():
        yield Problem(str(one), dotted(("genome", *one.path)), one.fix)

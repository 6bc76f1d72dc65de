"""What a check finds: errors, warnings and notes, collected rather than raised one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from evomerge.foundations.errors import Problem


class Severity(str, Enum):
    """How bad a finding is."""

    ERROR = "error"  # a run cannot begin
    WARNING = "warning"  # a run may not mean what its user thinks
    NOTE = "note"  # how something was understood

    @property
    def rank(self) -> int:
        """Errors first."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class Finding:
    """One thing found."""

    severity: Severity
    problem: Problem

    def at(self, where: str) -> Finding:
        """The same finding somewhere else."""
        return replace(self, problem=replace(self.problem, where=where))

    def __str__(self) -> str:
        return str(self.problem)


def error(what: str, where: str = "", fix: str = "") -> Finding:
    """A finding that stops a run."""
    return Finding(Severity.ERROR, Problem(what, where, fix))


def warning(what: str, where: str = "", fix: str = "") -> Finding:
    """A finding that a run's user should read."""
    return Finding(Severity.WARNING, Problem(what, where, fix))


def note(what: str, where: str = "", fix: str = "") -> Finding:
    """How something was understood."""
    return Finding(Severity.NOTE, Problem(what, where, fix))


def problems(findings: Iterable[Finding], severity: Severity) -> list[Problem]:
    """The problems of one severity, in order."""
    return [finding.problem for finding in findings if finding.severity is severity]

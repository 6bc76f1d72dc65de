"""Findings of a check as people read them: errors, then warnings, then notes."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

import click

from evomerge.foundations.findings import Finding, Severity

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "blue"}
_INDENT = 2


def draw_findings(findings: Sequence[Finding]) -> None:
    """Prints every finding on standard error, one line each where no person reads along."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    for severity in Severity:
        for finding in findings:
            if finding.severity is severity:
                label = click.style(severity.value, fg=_COLOURS[severity], bold=True)
                click.echo(f"{label}: {_wrapped(str(finding), width, severity)}", err=True)
    if findings:
        click.echo(_counts(findings), err=True)


def exit_code(findings: Sequence[Finding], *, strict: bool) -> int:
    """2 with errors, 1 with warnings that count, else 0."""
    severities = {finding.severity for finding in findings}
    if Severity.ERROR in severities:
        return 2
    return int(strict and Severity.WARNING in severities)


def _counts(findings: Sequence[Finding]) -> str:
    counted = []
    for severity in Severity:
        n = sum(finding.severity is severity for finding in findings)
        if n:
            counted.append(f"{n} {severity.value}{'s' if n > 1 else ''}")
    return ", ".join(counted)


def _wrapped(text: str, width: int, severity: Severity) -> str:
    """The text in lines of a terminal, later ones indented; names are never broken."""
    if not width:
        return text
    lines = textwrap.wrap(
        text,
        width - _INDENT,
        initial_indent=" " * len(f"{severity.value}: "),
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).lstrip()

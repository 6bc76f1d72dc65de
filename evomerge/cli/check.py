"""``evomerge check``: everything that files can show, without a merge."""

from __future__ import annotations

from pathlib import Path

import click

from evomerge.cli.arguments import genome_argument, permission_options, set_option
from evomerge.permissions import Permissions


@click.command(
    short_help="Check a genome, its models and its tasks.",
    epilog="Example: evomerge check genomes/skills.yml",
)
@genome_argument
@set_option
@permission_options
def check(genome: Path, overrides: tuple[str, ...], permissions: Permissions) -> None:
    """Checks a genome, its models and its tasks, and tells what a run would search."""
    from evomerge.cli.log import run_log
    from evomerge.genome import load_genome

    definition, source = load_genome(genome, overrides)
    with run_log():
        from evomerge.compiler import compile_genome

        compiled = compile_genome(definition, source, permissions)
    from evomerge.cli.plan import draw_plan

    draw_plan(compiled)
    for finding in compiled.findings:
        click.echo(f"{finding.severity.value}: {finding}", err=True)

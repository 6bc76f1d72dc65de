"""``evomerge check``: everything that files can show, without a merge."""

from __future__ import annotations

from pathlib import Path

import click

from evomerge.cli.arguments import genome_argument, set_option


@click.command(
    short_help="Check a genome, its models and its tasks.",
    epilog="Example: evomerge check genomes/skills.yml",
)
@genome_argument
@set_option
def check(genome: Path, overrides: tuple[str, ...]) -> None:
    """Checks a genome, its models and its tasks, and tells what a run would search."""
    from evomerge.cli.log import run_log
    from evomerge.genome import load_genome

    definition, source = load_genome(genome, overrides)
    with run_log():
        from evomerge.compiler import compile_genome, load_tasks, warnings

        compiled = compile_genome(definition, source)
        _, evaluators, _ = load_tasks(compiled)
        found = warnings(compiled, evaluators["tasks"])
    from evomerge.cli.plan import draw_plan

    draw_plan(compiled)
    for warning in found:
        click.echo(f"warning: {warning}", err=True)

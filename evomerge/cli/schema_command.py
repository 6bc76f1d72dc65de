"""``evomerge schema``: the genome's JSON schema for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from evomerge.cli.arguments import force_option


@click.command(
    short_help="Print the JSON schema of the genome.",
    epilog="Example: evomerge schema -o genome.schema.json",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a file instead of printing.",
)
@force_option
def schema(output: Path | None, force: bool) -> None:
    """Prints the JSON schema of the genome file, for completion and checks in editors."""
    from evomerge.cli.written import write_result
    from evomerge.compiler.json_schema import genome_schema

    write_result(json.dumps(genome_schema(), indent=2) + "\n", output, force=force)

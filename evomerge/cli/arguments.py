"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path

import click

genome_argument = click.argument("genome", type=click.Path(path_type=Path))
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Change a key of the genome, e.g. --set optimizer.budget=20. May be repeated.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs and nothing else."
)

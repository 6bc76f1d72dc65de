"""Where results go: standard output, or the file the user names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from evomerge.foundations.creating import create
from evomerge.foundations.secret import without_keys
from evomerge.foundations.text_safety import escaped, harmless, one_name


def write_result(text: str, output: Path | None, *, force: bool = False) -> None:
    """Prints a result, or writes it to a file and says so.

    Args:
        text: The result.
        output: The file; None: standard output.
        force: Whether another file that is there is replaced.

    Raises:
        OccupiedError: something else is there.
        LostFileError: the file cannot be written.
    """
    if output is None:
        click.echo(text, nl=False)
        return
    from evomerge.run.ledger.run_folder import refuse_of_run

    refuse_of_run(output)
    if create(output, text, force=force):
        say(f"wrote {one_name(output)}")
    else:
        say(f"{one_name(output)} holds this already")


def say(text: str, *, err: bool = True) -> None:
    """Prints a line for people, harmless and without keys whoever wrote what it quotes."""
    click.echo(harmless(without_keys(text)), err=err)


def print_json(content: Any) -> None:
    """Prints what a program reads."""
    click.echo(escaped(json.dumps(content, indent=2, ensure_ascii=False)))

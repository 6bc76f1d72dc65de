"""Where results go: standard output, or the file the user names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from evomerge.files import write_atomic


def write_result(text: str, output: Path | None) -> None:
    """Prints a result, or writes it to a file and says so.

    Raises:
        LostFileError: the file cannot be written.
    """
    if output is None:
        click.echo(text, nl=False)
        return
    write_atomic(output, text)
    click.echo(f"wrote {output}", err=True)


def print_json(content: Any) -> None:
    """Prints what a program reads."""
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))

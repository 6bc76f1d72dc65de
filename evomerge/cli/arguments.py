"""Arguments that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from evomerge.foundations.permissions import Permissions

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

force_option = click.option(
    "--force", is_flag=True, help="Replace what is there; links, FIFOs and devices never."
)

BY_HAND = Permissions(code=True)  # of somebody who names a package on the command line


def as_flags(permissions: Permissions) -> list[str]:
    """Permissions as options of a command."""
    flags = {
        "--trust-remote-code": permissions.trust_remote_code,
        "--confirm-run-unsafe-code": permissions.unsafe_code,
        "--allow-code": permissions.code,
    }
    pickles = [part for model in sorted(permissions.pickle) for part in ("--allow-pickle", model)]
    return [*(flag for flag, is_set in flags.items() if is_set), *pickles]


def permission_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags by which a person allows what may run code; passed as ``permissions``."""

    @click.option(
        "--trust-remote-code", is_flag=True, help="Let models bring Python code of their own."
    )
    @click.option(
        "--allow-pickle",
        multiple=True,
        metavar="MODEL",
        help="Read this model's weights from pickle files, which can run code. May be repeated.",
    )
    @click.option(
        "--confirm-run-unsafe-code",
        is_flag=True,
        help="Let tasks run code that a model wrote.",
    )
    @click.option(
        "--allow-code", is_flag=True, help="Run the code and programs that the genome names."
    )
    @wraps(command)
    def with_permissions(
        *args: Any,
        trust_remote_code: bool,
        allow_pickle: tuple[str, ...],
        confirm_run_unsafe_code: bool,
        allow_code: bool,
        **options: Any,
    ) -> Any:
        permissions = Permissions(
            trust_remote_code, frozenset(allow_pickle), confirm_run_unsafe_code, allow_code
        )
        return command(*args, permissions=permissions, **options)

    return with_permissions

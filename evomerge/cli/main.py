"""The group of all commands, and the one place where errors become exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from evomerge import __version__
from evomerge.cli.full_disk import is_nameless, is_of_output, problem_of
from evomerge.cli.interrupt import StoppedError, exit_code_of, terminated_by_signals
from evomerge.cli.written import say
from evomerge.foundations.errors import EvomergeError, Problem
from evomerge.foundations.garbage import collecting_later

_EXAMPLES = """\b
Examples:
  evomerge run genomes/skills.yml            search
  evomerge show runs/skills                  look
  evomerge export runs/skills -o recipe.yml  the winner, for mergekit-yaml
"""


# Command -> where it is; only the one that is called is imported. Help lists them by name.
COMMANDS = {
    "init": "evomerge.cli.init:init",
    "run": "evomerge.cli.run:run",
    "show": "evomerge.cli.show:show",
    "export": "evomerge.cli.export_command:export",
    "eval": "evomerge.cli.eval_command:evaluate",
    "verify": "evomerge.cli.verify_command:verify",
    "check": "evomerge.cli.check:check",
    "graft": "evomerge.cli.graft_command:graft",
    "list": "evomerge.cli.listing:list_names",
    "schema": "evomerge.cli.schema_command:schema",
    "doctor": "evomerge.cli.doctor:doctor",
    "slurm": "evomerge.cli.slurm_command:slurm",
}


class Commands(click.Group):
    """The commands of the table, each imported when it is called or described."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, as help lists them."""
        return sorted({*COMMANDS, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them, None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(
    cls=Commands,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="evomerge %(version)s")
def main() -> None:
    """Finds good merges of fine-tuned language models by searching."""


def entry_point(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits; unexpected errors keep their traceback.

    Args:
        arguments: What to run instead of the process's own arguments.
    """
    _say_in_any_encoding()
    try:
        with terminated_by_signals(), collecting_later():
            _refuse_impossible(arguments)
            exit_code = _main(arguments)
            if sys.stdout is not None:  # closed by whoever started this
                sys.stdout.flush()  # here, where what is wrong with it can still be told
            sys.exit(exit_code)
    except EvomergeError as error:
        for problem in error.problems:
            click.echo(_sentence(problem), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show(told := io.StringIO())  # it quotes arguments as they are
        say(told.getvalue().rstrip("\n"))
        sys.exit(error.exit_code)
    except StoppedError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        if not is_nameless(error):
            raise
        if not is_of_output(error, __name__):
            click.echo(_sentence(problem_of(error)), err=True)
            sys.exit(1)
        _give_up_stdout()
        say("standard output: cannot be written (no space left). Make room, or write elsewhere.")
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt) as interrupt:
        click.echo("Stopped.", err=True)
        sys.exit(exit_code_of(interrupt))


def _say_in_any_encoding() -> None:
    """A sign that a terminal or a pipe has no letter for becomes a question mark, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _give_up_stdout() -> None:
    """Python would write what is left in its buffer once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(arguments: Sequence[str] | None) -> int:
    """Runs the command line; click takes what ends a prompt for an answer for an end everywhere."""
    try:
        return main.main(arguments, prog_name="evomerge", standalone_mode=False) or 0
    except click.Abort as abort:
        if abort.__cause__ is None:
            raise
        raise abort.__cause__ from None


def _refuse_impossible(arguments: Sequence[str] | None) -> None:
    """Texts that no shell can give and no file can be named; click hands them to the system."""
    for argument in arguments or ():
        try:
            has_null = b"\0" in os.fsencode(argument)
        except UnicodeEncodeError:  # half of a character
            has_null = True
        if has_null:
            raise click.UsageError(f"{argument!r} holds what no argument can.")


def _sentence(problem: Problem) -> str:
    """The problem as a sentence, its parts in colours where the terminal has them."""
    where = click.style(problem.where, bold=True)
    what, fix = Problem(problem.what), click.style(problem.fix, fg="cyan") if problem.fix else ""
    return f"{where}: {what} {fix}".rstrip() if problem.where else f"{what} {fix}".rstrip()

"""``evomerge verify``: the winner built and scored again, without evomerge's own machinery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evomerge.cli.arguments import permission_options
from evomerge.cli.interrupt import StoppedError
from evomerge.cli.watching import watching
from evomerge.cli.written import say
from evomerge.foundations.garbage import collect_again
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.text_safety import one_name

if TYPE_CHECKING:
    from evomerge.verify.differences import Difference, Result
    from evomerge.verify.rebuild import Rebuilt

N_SHOWN = 20
_LONGEST = 24  # characters of an answer in the table


@click.command(
    short_help="Build the winner with mergekit and compare its answers.",
    epilog="Example: evomerge verify runs/skills",
)
@click.argument("best_or_run", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Build into this folder and keep the model. Default: a temporary folder.",
)
@click.option("--trial", type=click.IntRange(min=0), help="This trial instead of the winner.")
@permission_options
@click.pass_context
def verify(
    context: click.Context,
    best_or_run: Path,
    keep: Path | None,
    trial: int | None,
    permissions: Permissions,
) -> None:
    """Builds the winner with mergekit alone, scores it with lm-eval alone, and compares.

    Every document of every split is compared with the ledger of the run. What may change the
    bits on this machine is told before anything is built.

    Exit code 0: all equal. 1: documents differ, or nothing could be built. 2: wrong input.
    """
    from evomerge.foundations.library_log import kept_log

    is_equal = True
    with kept_log():
        from evomerge.verify.rebuild import prepare

        try:
            with watching() as watch:
                watch("reads the run, its models and tasks", 0.0)
                verification = prepare(best_or_run, permissions, keep, trial)
            for finding in verification.findings:
                say(f"{finding.severity.value}: {finding}")
            collect_again()
            for winner in verification.winners:
                with watching() as watch:
                    verdict = verification.verdict(winner, watch)
                _tell(verdict)
                is_equal = is_equal and not verdict.differences
        except KeyboardInterrupt as interrupt:
            raise StoppedError("Stopped; nothing more was compared.", interrupt) from interrupt
    if not is_equal:
        context.exit(1)


def _tell(verdict: Rebuilt) -> None:
    trial_id = verdict.recorded.trial_id
    if verdict.differences:
        _draw(verdict.differences)
        say(
            f"trial {trial_id}: {verdict.n_differing} of {verdict.n_documents} documents differ"
            + _metrics_text(verdict),
            err=False,
        )
    else:
        n_splits = len(verdict.recorded.documents)
        splits = "1 split" if n_splits == 1 else f"{n_splits} splits"
        say(
            f"trial {trial_id}: all {verdict.n_documents} documents of {splits} answer as recorded",
            err=False,
        )
    if verdict.folder is not None:
        say(f"model {one_name(verdict.folder)}", err=False)


def _metrics_text(verdict: Rebuilt) -> str:
    n_metrics = sum(difference.doc_id is None for difference in verdict.differences)
    if not n_metrics:
        return ""
    return f", and {n_metrics} metric{'s' if n_metrics > 1 else ''}"


def _draw(differences: Sequence[Difference]) -> None:
    from evomerge.cli.drawn import plain_table

    plain_table([_row(difference) for difference in differences[:N_SHOWN]])
    if len(differences) > N_SHOWN:
        say(f"and {len(differences) - N_SHOWN} more", err=False)
    click.echo()


def _row(difference: Difference) -> dict[str, str]:
    document = "all" if difference.doc_id is None else str(difference.doc_id)
    return {
        "task": difference.task,
        "document": document,
        "what": difference.what,
        "ledger": _text(difference.recorded),
        "rebuilt": _text(difference.found),
    }


def _text(value: Result) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "-" if value is None else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"

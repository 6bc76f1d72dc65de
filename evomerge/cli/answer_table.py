"""What a trial answered, document by document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from evomerge.cli.drawn import empty_table
from evomerge.cli.plain_text import plain
from evomerge.foundations.errors import RunError
from evomerge.run.recorded_run import RecordedRun

_SPLITS = {"tasks": "search", "validation": "validation", "holdout": "holdout"}


def answers_data(run: RecordedRun, trial_id: int) -> list[dict[str, Any]]:
    """The documents of a trial with their values and answers, for programs.

    Raises:
        RunError: there is no such trial, it failed, or nothing is kept of its documents.
    """
    run.complete_trial(trial_id)
    found = list(_documents(run, trial_id))
    if not found:
        where = str(run.ledger.folder.path)
        raise RunError(f"no documents of trial {trial_id} are kept", where=where)
    return found


def _documents(run: RecordedRun, trial_id: int) -> Iterator[dict[str, Any]]:
    for split, title in _SPLITS.items():
        evaluation = run.evaluation(split, trial_id)
        for one in evaluation.documents if evaluation is not None else ():
            yield {
                "split": title,
                "task": one.task,
                "document": one.doc_id,
                "values": dict(one.values),
                "answer": one.answer,
            }


def draw_answers(console: Console, documents: list[dict[str, Any]], trial_id: int) -> None:
    """Prints a row per document."""
    console.print(plain(f"\nwhat trial {trial_id} answered", style="bold"))
    table = empty_table()
    for name in ("split", "task", "document"):
        table.add_column(name, no_wrap=True)
    table.add_column("values")
    table.add_column("answer")
    for one in documents:
        named = ((name.removesuffix(",none"), value) for name, value in one["values"].items())
        values = "\n".join(f"{name} {value:g}" for name, value in named)
        answer = "" if one["answer"] is None else str(one["answer"])
        cells = (one["split"], one["task"], str(one["document"]), values, answer)
        table.add_row(*map(plain, cells))
    console.print(table)

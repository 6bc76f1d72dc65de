"""What one trial answered, document by document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evomerge.foundations.text_safety import harmless, one_name
from evomerge.genome.words import SPLITS

if TYPE_CHECKING:
    from evomerge.nouns.evaluation import Document
    from evomerge.run.recorded_run import RecordedRun


def answers_of(run: RecordedRun, trial_id: int) -> list[dict[str, Any]]:
    """Every document of a trial, split after split.

    Raises:
        RunError: the run has no such trial, or it failed.
    """
    run.complete_trial(trial_id)
    return [
        {
            "split": split,
            "task": one.task,
            "document": one.doc_id,
            "values": dict(one.values),
            "answer": one.answer,
        }
        for split in SPLITS
        for one in run.documents(trial_id, split)
    ]


def answer_lines(run: RecordedRun, trial_id: int) -> Iterator[str]:
    """The same for people."""
    run.complete_trial(trial_id)
    objectives = {"tasks": run.leaderboard.objective, **run.finals}
    for split in SPLITS:
        keys = objectives[split].keys if split in objectives else ()
        read = {key.task: f"{key.metric},{key.filter}" for key in keys}
        for one in run.documents(trial_id, split):
            told = _values(one, read.get(one.task, ""))
            yield f"{split}, {one_name(one.task)}, document {one.doc_id}: {told}"
            if one.answer is not None:
                is_text = isinstance(one.answer, str)
                yield harmless(str(one.answer)) if is_text else f"option {one.answer}"
            yield ""


def _values(document: Document, read: str) -> str:
    """Its numbers, the one that the genome reads first."""
    values = sorted(document.values.items(), key=lambda item: (item[0] != read, item[0]))
    told = (f"{name.removesuffix(',none')} {value:g}" for name, value in values)
    return one_name(", ".join(told)) or "no value"

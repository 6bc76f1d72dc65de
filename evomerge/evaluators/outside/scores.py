"""What judges from outside return: one number, or one for each document, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.evaluators.asking.asking_kind import Judgement, Shown
from evomerge.evaluators.kind_of_task import Measure
from evomerge.evaluators.task_files import brief
from evomerge.foundations.errors import EvaluationError
from evomerge.foundations.secret import without_keys

SCORE = "score"  # the one measure
_FORMS = (
    "expected a number, or a list with one for each document, or {score, prompt, answer, target}"
)
_TEXTS = ("prompt", "answer", "target")


def judgements_of(
    result: Any, n_documents: int | None, measure: Measure, exchange: Sequence[tuple[str, str]] = ()
) -> tuple[Judgement, ...]:
    """One for each document.

    Args:
        result: As JSON has it.
        n_documents: How many there have to be; None: as many as there are.
        measure: What the numbers may be.
        exchange: Prompts and what was written after them; shown where the result has no texts.

    Raises:
        EvaluationError: it is not of this form, of another number, or a number is out of range.
    """
    if result is None:
        raise EvaluationError(f"nothing came back, {_FORMS}")
    rows = result if isinstance(result, list) else [result]
    if not rows or (n_documents is not None and len(rows) != n_documents):
        wanted = "at least one" if n_documents is None else n_documents
        raise EvaluationError(f"{len(rows)} scores came back, expected {wanted}")
    is_one_each = len(exchange) == len(rows)
    found = []
    for place, row in enumerate(rows):
        texts = _texts(row)
        value = _number(row, place, measure)
        prompt, answer = exchange[place] if is_one_each else ("", "")
        prompt, answer, target = (  # what code says may hold keys of its environment
            without_keys(text)
            for text in (
                texts.get("prompt") or prompt,
                texts.get("answer") or answer,
                texts.get("target", ""),
            )
        )
        shown = Shown(prompt, answer, target) if prompt or answer else None
        found.append(Judgement({SCORE: value}, answer or None, shown))
    return tuple(found)


def _number(row: Any, place: int, measure: Measure) -> float:
    value = row.get(SCORE) if isinstance(row, Mapping) else row
    if not isinstance(value, (int, float)):  # true and false are 1 and 0
        raise EvaluationError(f"score {place} is {brief(value)}, {_FORMS}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise EvaluationError(f"score {place} is {brief(value)}, expected a finite number")
    if not measure.low <= value <= measure.high:
        span = f"[{measure.low:g}, {measure.high:g}]"
        raise EvaluationError(f"score {place} is {value:g}, outside {span}, the range of the task")
    return number


def _texts(row: Any) -> dict[str, str]:
    if not isinstance(row, Mapping):
        return {}
    return {key: str(row[key]) for key in _TEXTS if row.get(key) is not None}

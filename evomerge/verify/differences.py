"""Two lists of per-document results -> the documents on which they differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from evomerge.nouns.evaluation import Document

Result = int | str | float | None

# How far two values that are sums of logits may lie apart: other batches round differently.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}  # relative
_SMALL = 1e-6  # absolute, for values near 0


@dataclass(frozen=True)
class Difference:
    """One thing on which the ledger and the built model differ.

    Attributes:
        split: ``"tasks"``, ``"validation"`` or ``"holdout"``.
        task: Task name.
        doc_id: The document; None for a metric over all of them.
        what: ``"answer"``, or the metric.
        recorded: What the ledger holds; None where it holds nothing.
        found: What the built model gives, likewise.
    """

    split: str
    task: str
    doc_id: int | None
    what: str
    recorded: Result
    found: Result


def compare_documents(
    split: str, recorded: Iterable[Document], found: Iterable[Document], tolerance: float
) -> Iterator[Difference]:
    """One difference per document at most, in the order of the ledger.

    Args:
        split: What both are of.
        recorded: From the ledger.
        found: From the built model.
        tolerance: Relative, of values that are not counts.
    """
    theirs = {(document.task, document.doc_id): document for document in found}
    for document in recorded:
        other = theirs.pop((document.task, document.doc_id), None)
        first = next(_between(document, other, tolerance), None)
        if first is not None:
            yield Difference(split, document.task, document.doc_id, *first)
    for left in theirs.values():
        yield Difference(split, left.task, left.doc_id, "document", "absent", "scored")


def _between(
    document: Document, other: Document | None, tolerance: float
) -> Iterator[tuple[str, Result, Result]]:
    if other is None:
        yield "document", "scored", "absent"
        return
    if document.answer != other.answer:
        yield "answer", document.answer, other.answer
    for name in dict.fromkeys((*document.values, *other.values)):
        values = document.values.get(name), other.values.get(name)
        if not is_close(*values, tolerance):
            yield name, *values


def compare_metrics(
    split: str,
    recorded: Mapping[str, float],
    found: Mapping[str, float],
    documents: Iterable[Document],
    tolerance: float,
) -> Iterator[Difference]:
    """The recorded metrics that the built model does not give.

    Args:
        split: What both are of.
        recorded: ``"task/metric,filter"`` -> value, from the ledger.
        found: The same of the built model.
        documents: From the ledger; metrics that count documents must be equal.
        tolerance: Relative, of the others.
    """
    is_count: dict[str, bool] = {}
    for document in documents:
        for name, value in document.values.items():
            is_count[name] = is_count.get(name, True) and float(value).is_integer()
    for key, value in recorded.items():
        task, _, metric = key.rpartition("/")
        allowed = 0.0 if is_count.get(metric) else tolerance
        if not is_close(value, found.get(key), allowed):
            yield Difference(split, task, None, metric, value, found.get(key))


def is_close(one: float | None, other: float | None, tolerance: float) -> bool:
    """Whether two values are the same but for the order of their sums."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=_SMALL)

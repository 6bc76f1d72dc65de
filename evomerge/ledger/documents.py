"""Per-document results, one compressed file per trial and split."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from evomerge.files import canonical_json, write_atomic
from evomerge.trial import Document, Outcome


def read_documents(path: Path) -> tuple[Document, ...]:
    """Results of a trial, empty where there is no file."""
    if not path.is_file():
        return ()
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return tuple(Document(**json.loads(line)) for line in file)


def write_documents(path: Path, outcome: Outcome) -> None:
    """Writes the results of an outcome, if it has any."""
    if outcome.evaluation is None or not outcome.evaluation.documents:
        return
    lines = "\n".join(canonical_json(_document_line(d)) for d in outcome.evaluation.documents)
    packed = gzip.compress(lines.encode(), compresslevel=1, mtime=0)
    write_atomic(path, packed)


def _document_line(document: Document) -> dict[str, Any]:
    return {
        "task": document.task,
        "doc_id": document.doc_id,
        "values": dict(document.values),
        "answer": document.answer,
    }

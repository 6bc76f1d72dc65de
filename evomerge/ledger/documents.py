"""Per-document results, one compressed file per trial and split."""

from __future__ import annotations

import gzip
import json
import zlib
from functools import lru_cache
from pathlib import Path

from evomerge.errors import LedgerError
from evomerge.files import canonical_json, write_atomic
from evomerge.ledger.shape import document_in
from evomerge.trial import Document, Outcome

MAX_BYTES = 1 << 28  # unpacked; a small file can hold a thousand times its size


def read_documents(path: Path) -> tuple[Document, ...]:
    """Results of a trial, empty where there is no file.

    Raises:
        LedgerError: the file is broken, or holds more than any run writes.
    """
    if not path.is_file():
        return ()
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes unpacked")
        # Not splitlines: an answer may hold other characters that end a line.
        return tuple(Document(**document_in(json.loads(line))) for line in content.split(b"\n"))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise LedgerError(
            f"not the documents of a trial ({str(error) or type(error).__name__})",
            where=str(path),
            fix="Restore the file from a copy.",
        ) from error


def write_documents(path: Path, outcome: Outcome) -> None:
    """Writes the results of an outcome, if it has any."""
    if outcome.evaluation is None or not outcome.evaluation.documents:
        return
    lines = "\n".join(map(_line, outcome.evaluation.documents))
    packed = gzip.compress(lines.encode(), compresslevel=1, mtime=0)
    write_atomic(path, packed)


def _line(document: Document) -> str:
    """The canonical JSON of a document; most of it has been said of another one."""
    answer = document.answer
    told = str(answer) if type(answer) is int else canonical_json(answer)
    task, values = _text(document.task), _values(tuple(document.values.items()))
    return f'{{"answer":{told},"doc_id":{document.doc_id},"task":{task},"values":{values}}}'


@lru_cache(maxsize=4096)
def _text(text: str) -> str:
    return canonical_json(text)


@lru_cache(maxsize=4096)
def _values(values: tuple[tuple[str, float], ...]) -> str:
    return canonical_json(dict(values))

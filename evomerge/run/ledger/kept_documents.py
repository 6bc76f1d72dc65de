"""Per-document results, one compressed file per trial and split."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import NotRequired, TypedDict

from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.errors import LedgerError
from evomerge.foundations.files import write_atomic
from evomerge.foundations.reading import is_there, opened
from evomerge.nouns.evaluation import Document, Outcome
from evomerge.run.ledger.strict_values import Count, Finite, Name, checked

MAX_BYTES = 1 << 28  # unpacked; a small file can hold a thousand times its size


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Document(TypedDict):
    task: Name
    doc_id: Count
    values: dict[Name, Finite]
    answer: int | str | None
    written: NotRequired[list[Count]]


_DOCUMENT: TypeAdapter[Any] = TypeAdapter(_Document)


def read_documents(path: Path) -> tuple[Document, ...]:
    """Results of a trial, empty where there is no file.

    Raises:
        LedgerError: the file is broken, or holds more than any run writes.
    """
    if not is_there(path):
        return ()
    try:
        with opened(path, follow=False) as packed, gzip.GzipFile(fileobj=packed) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes unpacked")
        # Not splitlines: an answer may hold other characters that end a line.
        return tuple(_document(line) for line in content.split(b"\n"))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise LedgerError(
            f"not the documents of a trial ({str(error) or type(error).__name__})",
            where=str(path),
            fix="Restore the file from a copy.",
        ) from error


def _document(line: bytes) -> Document:
    told = checked(_DOCUMENT, json.loads(line))
    written = told.pop("written", None)
    return Document(**told, written=None if written is None else tuple(written))


def write_documents(path: Path, outcome: Outcome) -> bool:
    """Writes the results of an outcome; whether it has any."""
    if outcome.evaluation is None or not outcome.evaluation.documents:
        return False
    lines = "\n".join(_lines(outcome.evaluation.documents))
    packed = gzip.compress(lines.encode(), compresslevel=1, mtime=0)
    write_atomic(path, packed)
    return True


def _lines(documents: Sequence[Document]) -> Iterator[str]:
    """The canonical JSON of each document; those of one task often share their values too."""
    tails: dict[tuple[str, int], str] = {}
    for task, doc_id, values, answer, written in documents:
        tail = tails.get((task, id(values)))
        if tail is None:
            tail = f'"task":{canonical_json(task)},"values":{canonical_json(dict(values))}'
            tails[task, id(values)] = tail
        told = answer if type(answer) is int else canonical_json(answer)
        tokens = "" if written is None else f',"written":[{",".join(map(str, written))}]'
        yield f'{{"answer":{told},"doc_id":{doc_id},{tail}{tokens}}}'

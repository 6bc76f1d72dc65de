"""A file of texts -> the documents of a task, checked line by line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from evomerge.evaluators.base import TaskSettings
from evomerge.evaluators.chosen_documents import sampled_documents
from evomerge.foundations.errors import GenomeError, Problem, UnreadableError, nearest, why
from evomerge.foundations.reading import is_there, read_bytes
from evomerge.genome.block import Whole
from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import MetricKey

METRICS = ("bits_per_byte", "word_perplexity")  # the first is read unless the genome says
MOST_BYTES = 1 << 30  # of a file
FILTER = "none"
_PARAGRAPHS = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")


class PerplexitySettings(TaskSettings):
    """What stands under ``perplexity:``."""

    file: str = Field(
        description="A text file, or a `.jsonl` file with a JSON object in each of its lines."
    )
    field: str = Field("text", description="Which text of each object is read, in a `.jsonl` file.")
    chunk_bytes: Annotated[Whole, Field(ge=1)] = Field(
        4096,
        description="Room of a document of a text file, which takes as many whole paragraphs as "
        "fit; a longer paragraph is a document by itself.",
    )


@dataclass(frozen=True)
class Corpus:
    """The documents of one task.

    Attributes:
        key: The metric read from it.
        texts: Those that are scored.
        numbers: Which of the file's documents they are, counted from 0.
        n_available: Documents of the file.
    """

    key: MetricKey
    texts: tuple[str, ...]
    numbers: tuple[int, ...]
    n_available: int


def corpus_of(task: Task, where: str, seed: int) -> Corpus | Problem:
    """The documents of one task, or what is wrong with it.

    Args:
        task: As the genome has it.
        where: Its key path there.
        seed: Root seed of drawn documents.
    """
    metric, _, of = (task.metric or METRICS[0]).partition(",")
    if metric not in METRICS or of.strip() not in ("", FILTER):
        what = f"got {task.metric!r}{nearest(metric, METRICS)} (it has: {', '.join(METRICS)})"
        return Problem(what, f"{where}.metric")
    try:
        texts = texts_of(PerplexitySettings.model_validate(task.given))
    except GenomeError as error:
        return replace(error.problems[0], where=f"{where}.{task.kind}")
    chosen = sampled_documents(task, task.name, len(texts), seed, where)
    if isinstance(chosen, Problem):
        return chosen
    numbers = tuple(range(len(texts))[: task.limit] if chosen is None else chosen)
    key = MetricKey(task.name, metric, FILTER)
    return Corpus(key, tuple(texts[number] for number in numbers), numbers, len(texts))


def texts_of(settings: PerplexitySettings) -> list[str]:
    """The documents of a file.

    Raises:
        GenomeError: it cannot be read, or is not of its form.
    """
    path = Path(settings.file)
    if not is_there(path):
        raise GenomeError(f"no file {settings.file!r}", fix="Mend the path.")
    try:
        content = read_bytes(path, MOST_BYTES)
    except UnreadableError as error:
        raise GenomeError(
            f"{settings.file!r}: {error.problems[0].what}", fix="Name a text file."
        ) from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise _wrong(
            settings, content.count(b"\n", 0, error.start), "is no text in UTF-8"
        ) from error
    if "\0" in text:
        raise _wrong(settings, text.count("\n", 0, text.index("\0")), "holds zero bytes, no text")
    found = list(_lines(text, settings) if path.suffix == ".jsonl" else _chunks(text, settings))
    if not found:
        raise GenomeError(f"{settings.file!r} holds no text", fix="Put texts into it.")
    return found


def _lines(text: str, settings: PerplexitySettings) -> Iterator[str]:
    """The text of each JSON object; blank lines are none."""
    for index, line in enumerate(text.split("\n")):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _wrong(settings, index, f"is no JSON ({why(error)})") from error
        own = row.get(settings.field) if isinstance(row, dict) else None
        if not isinstance(own, str) or not own.strip():
            raise _wrong(settings, index, f"has no text under {settings.field!r}")
        try:
            own.encode()
        except UnicodeEncodeError as error:
            raise _wrong(settings, index, "holds half of a character") from error
        yield own


def _chunks(text: str, settings: PerplexitySettings) -> Iterator[str]:
    """Whole paragraphs, as many as there is room for."""
    chunk = ""
    for paragraph in filter(str.strip, _PARAGRAPHS.split(text.replace("\r\n", "\n"))):
        longer = f"{chunk}\n\n{paragraph}" if chunk else paragraph
        if chunk and len(longer.encode()) > settings.chunk_bytes:
            yield chunk
            longer = paragraph
        chunk = longer
    if chunk:
        yield chunk


def _wrong(settings: PerplexitySettings, n_before: int, what: str) -> GenomeError:
    """What is wrong with a line that stands after so many."""
    return GenomeError(f"line {n_before + 1} of {settings.file!r} {what}", fix="Mend the file.")

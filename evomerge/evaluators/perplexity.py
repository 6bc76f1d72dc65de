"""Scores how well a model foretells the texts of a file: bits per byte, perplexity per word.

A document is a line of a .jsonl file, or a chunk of a text file: whole paragraphs, as many as
there is room for. Every token is scored once, given what stands before it in its document; a
document that is longer than what the model reads is read in windows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from evomerge.evaluators.asking.asked import AskTextLikelihood
from evomerge.evaluators.asking.asking_kind import (
    Asking,
    AskingKind,
    Item,
    Judgement,
    Lesson,
    LikelyText,
)
from evomerge.evaluators.kind_of_task import Measure, TaskSettings
from evomerge.evaluators.task_files import all_read, is_rows, rows_in, task_text, text_under
from evomerge.foundations.errors import GenomeError
from evomerge.genome.block import Whole

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


class Perplexity(AskingKind[str]):
    """``perplexity: text.txt``: lower is better, and every document has a value of its own."""

    Settings = PerplexitySettings
    measures = (
        Measure("bits_per_byte", False, low=0.0, what="bits that a byte of text costs the model"),
        Measure("word_perplexity", False, low=1.0, what="perplexity per word between blanks"),
    )
    too_long = "they are read in windows. Make chunk_bytes smaller, or cut the lines of the file."

    def items(self) -> Iterator[Item[str]]:
        """See :meth:`AskingKind.items`."""
        return (Item(text, text) for text in texts_of(self.settings))

    def judge(self, item: Item[str]) -> Asking:
        """See :meth:`AskingKind.judge`."""
        likelihood = yield AskTextLikelihood(item.content)
        try:
            perplexity = math.exp(-likelihood / len(item.content.split()))
        except OverflowError:  # of a broken model
            perplexity = math.inf
        bits = -likelihood / math.log(2) / len(item.content.encode())
        return Judgement({"bits_per_byte": bits, "word_perplexity": perplexity})

    def lesson(self, item: Item[str]) -> Lesson:
        """See :meth:`AskingKind.lesson`."""
        return LikelyText(item.content)


def texts_of(settings: PerplexitySettings) -> list[str]:
    """The documents of a file.

    Raises:
        GenomeError: it cannot be read, or is not of its form.
    """
    file, text = settings.file, task_text(settings.file)
    if is_rows(file):
        rows = rows_in(file, text)
        found = all_read(rows, lambda one: text_under(one[1], settings.field, file, one[0]))
    else:
        found = list(_chunks(text, settings.chunk_bytes))
    if not found:
        raise GenomeError(f"{file!r} holds no text", fix="Put texts into it.")
    return found


def _chunks(text: str, n_bytes: int) -> Iterator[str]:
    """Whole paragraphs, as many as there is room for."""
    chunk = ""
    for paragraph in filter(str.strip, _PARAGRAPHS.split(text.replace("\r\n", "\n"))):
        longer = f"{chunk}\n\n{paragraph}" if chunk else paragraph
        if chunk and len(longer.encode()) > n_bytes:
            yield chunk
            longer = paragraph
        chunk = longer
    if chunk:
        yield chunk

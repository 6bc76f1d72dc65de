"""Files of questions, as Model Swarms keeps them: lists of rows under names, or a row per line.

A ``.json`` file holds ``{"dataset": ..., "dev": [...], "test": [...]}``, and perhaps an
``icl_prompt`` that stands before each question; a ``.jsonl`` file a row in each line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from evomerge.evaluators.asking.asking_kind import Item
from evomerge.evaluators.kind_of_task import TaskSettings
from evomerge.evaluators.task_files import rows_in, task_text
from evomerge.foundations.errors import GenomeError, nearest, why


class QuestionSetSettings(TaskSettings):
    """What kinds read that ask the questions of a file."""

    file: str = Field(
        description="A `.json` file with lists of questions, or a `.jsonl` file with one per line."
    )
    split: str = Field("dev", description="Which of the lists, in a `.json` file.")


@dataclass(frozen=True)
class QuestionRow:
    """A row of a file.

    Attributes:
        place: Where it stands, for messages.
        content: As JSON has it.
        file: The file.
    """

    place: str
    content: Any
    file: str

    def text(self, key: str) -> str:
        """A text of the row, which is neither missing nor blank.

        Raises:
            GenomeError: there is none, or no text that can be written.
        """
        own = self.content.get(key) if isinstance(self.content, dict) else None
        if not isinstance(own, str) or not own.strip():
            raise self.wrong(f"has no text under {key!r}")
        return self.whole(own)

    def whole(self, text: str) -> str:
        """A text of the row, which can be written.

        Raises:
            GenomeError: it cannot.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.wrong("holds half of a character") from error
        return text

    def wrong(self, what: str) -> GenomeError:
        """What is wrong with it."""
        return GenomeError(f"{self.place} of {self.file!r} {what}", fix="Mend the file.")


@dataclass(frozen=True)
class QuestionSet:
    """The questions of one split.

    Attributes:
        dataset: What the file calls itself; else its own name.
        rows: In its order.
        before: What stands before each question; empty for nothing.
    """

    dataset: str
    rows: tuple[QuestionRow, ...]
    before: str = ""


def question_set(settings: QuestionSetSettings) -> QuestionSet:
    """The questions that a task asks.

    Raises:
        GenomeError: the file cannot be read, or is not of its form.
    """
    file, text = settings.file, task_text(settings.file)
    name = Path(file).stem
    if Path(file).suffix == ".jsonl":
        return QuestionSet(
            name, tuple(QuestionRow(f"line {n}", row, file) for n, row in rows_in(file, text))
        )
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GenomeError(f"{file!r} is no JSON ({why(error)})", fix="Mend the file.") from error
    if not isinstance(content, dict):
        raise GenomeError(f"{file!r} holds no lists under names", fix="Mend the file.")
    rows = content.get(settings.split)
    if not isinstance(rows, list):
        lists = [key for key, value in content.items() if isinstance(value, list)]
        raise GenomeError(
            f"{file!r} has no list {settings.split!r}{nearest(settings.split, lists)} "
            f"(it has: {', '.join(lists) or 'none'})",
            where="split",
        )
    before = content.get("icl_prompt")
    return QuestionSet(
        str(content.get("dataset") or name),
        tuple(QuestionRow(f"{settings.split}[{i}]", row, file) for i, row in enumerate(rows)),
        QuestionRow("icl_prompt", content, file).whole(before) if isinstance(before, str) else "",
    )


def prompt_items(settings: QuestionSetSettings) -> Iterator[Item[str]]:
    """The documents of a task whose rows are prompts alone: ``{"prompt": ...}``.

    Raises:
        GenomeError: as of :func:`question_set`, or a row has no prompt.
    """
    for row in question_set(settings).rows:
        prompt = row.text("prompt")
        yield Item(prompt, prompt)

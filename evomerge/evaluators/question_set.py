"""Files of questions, as Model Swarms keeps them: lists of rows under names, or a row per line.

A ``.json`` file holds ``{"dataset": ..., "dev": [...], "test": [...]}``, and perhaps an
``icl_prompt`` that stands before each question; a ``.jsonl`` file a row in each line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from evomerge.evaluators.asking.asking_kind import Item
from evomerge.evaluators.kind_of_task import TaskSettings
from evomerge.evaluators.task_files import (
    all_read,
    brief,
    flaw_of,
    is_rows,
    is_whole,
    rows_in,
    task_text,
)
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
        flaw = flaw_of(self.content, key)
        if flaw:
            raise self.wrong(flaw)
        return str(self.content[key])

    def whole(self, text: str) -> str:
        """A text of the row, which can be written.

        Raises:
            GenomeError: it cannot.
        """
        if not is_whole(text):
            raise self.wrong("holds half of a character")
        return text

    def wrong(self, what: str) -> GenomeError:
        """What is wrong with it."""
        return GenomeError(f"{self.place} of {self.file!r} {what}", fix="Mend the file.")


@dataclass(frozen=True)
class QuestionSet:
    """The questions of one split.

    Attributes:
        dataset: What the file calls itself; else its own name.
        rows: In its order; they come once, and a line that is no JSON ends them with an error.
        before: What stands before each question; empty for nothing.
    """

    dataset: str
    rows: Iterable[QuestionRow]
    before: str = ""


def question_set(settings: QuestionSetSettings) -> QuestionSet:
    """The questions that a task asks.

    Raises:
        GenomeError: the file cannot be read, or is not of its form.
    """
    file, text = settings.file, task_text(settings.file)
    name = Path(file).stem
    if is_rows(file):
        numbered = rows_in(file, text)
        return QuestionSet(name, (QuestionRow(f"line {n}", row, file) for n, row in numbered))
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GenomeError(f"{file!r} is no JSON ({why(error)})", fix="Mend the file.") from error
    if not isinstance(content, dict):
        what = f"{file!r} holds {brief(content)}, expected an object with a list for each split"
        raise GenomeError(what, fix='Write {"dev": [...]}, or a row per line of a .jsonl file.')
    rows = content.get(settings.split)
    if not isinstance(rows, list):
        lists = [key for key, value in content.items() if isinstance(value, list)]
        raise GenomeError(
            f"{file!r} has no list {settings.split!r}{nearest(settings.split, lists)} "
            f"(it has: {', '.join(lists) or 'none'})",
            where="split",
            fix="Name one of them.",
        )
    return QuestionSet(
        str(content.get("dataset") or name),
        (QuestionRow(f"{settings.split}[{i}]", row, file) for i, row in enumerate(rows)),
        _before(content.get("icl_prompt"), file),
    )


def _before(given: Any, file: str) -> str:
    """What stands before each question.

    Raises:
        GenomeError: it is no text.
    """
    row = QuestionRow("icl_prompt", given, file)
    if given is not None and not isinstance(given, str):
        raise row.wrong(f"is {brief(given)}, expected a text")
    return row.whole(given or "")


def prompt_items(settings: QuestionSetSettings) -> Iterator[Item[str]]:
    """The documents of a task whose rows are prompts alone: ``{"prompt": ...}``.

    Raises:
        GenomeError: as of :func:`question_set`, or a row has no prompt.
    """
    prompts = all_read(question_set(settings).rows, lambda row: row.text("prompt"))
    return (Item(prompt, prompt) for prompt in prompts)

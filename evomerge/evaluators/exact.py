"""Asks questions as they stand and compares the reply with the answer: Model Swarms' exact match.

A row is ``{"question": ..., "answer": "150"}``.

Source: Feng et al., Model Swarms (2024), arXiv:2410.11163.
Differs: the answer must stand where a reply ends on it; ``match: loose`` takes it anywhere. A reply
to data of neither of their names may have 200 tokens instead of 10; an ``icl_prompt`` is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from evomerge.evaluators.asking.asked import AskText
from evomerge.evaluators.asking.asking_kind import (
    Around,
    Asking,
    AskingKind,
    Item,
    Judgement,
    Lesson,
    RightReply,
    Shown,
)
from evomerge.evaluators.kind_of_task import Languages, Measure
from evomerge.evaluators.question_set import QuestionRow, QuestionSetSettings, question_set
from evomerge.evaluators.reply_reading import says_exactly, says_loosely
from evomerge.evaluators.task_files import all_read
from evomerge.genome.block import Whole
from evomerge.genome.task_blocks import Task

MANY = 200  # tokens of a reply that works its answer out
TOKENS = {"nlgraph": 10}  # by the name of the data


class ExactSettings(QuestionSetSettings):
    """What stands under ``exact:``."""

    max_tokens: Annotated[Whole, Field(ge=1)] | None = Field(
        None,
        description="Tokens of a reply. Default: 200, and 10 for the data set NLGraph, as in Model "
        "Swarms, which has 10 for all but GSM8K.",
    )
    stops: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="Texts that end a reply."
    )
    match: Literal["strict", "loose"] = Field(
        "strict",
        description="`strict`: the last number of the reply, or the words it begins with, or what "
        "follows `the answer is`. `loose`: anywhere, as in Model Swarms, so that `5` is in `15`.",
    )
    last_words: Annotated[Whole, Field(ge=1)] | None = Field(
        None,
        description="Of a loosely read reply the last so many words alone; Model Swarms has 5 in "
        "its search on GSM8K, and 10 in its test.",
    )
    language: Languages = None


class ExactAnswers(AskingKind[tuple[str, str]]):
    """``exact: {file: gsm8k.json, split: dev}``: the share of right answers."""

    Settings = ExactSettings
    measures = (Measure("exact_match", True, 0.0, 1.0, "share of right answers"),)

    def __init__(self, task: Task, around: Around) -> None:
        super().__init__(task, around)
        self.max_new_tokens = self.settings.max_tokens or MANY  # until the data set is known

    def items(self) -> Iterator[Item[tuple[str, str]]]:
        """See :meth:`AskingKind.items`."""
        questions = question_set(self.settings)
        if self.settings.max_tokens is None:
            self.max_new_tokens = TOKENS.get(questions.dataset.casefold(), MANY)
        return iter(all_read(questions.rows, lambda row: _item(row, questions.before)))

    def judge(self, item: Item[tuple[str, str]]) -> Asking:
        """See :meth:`AskingKind.judge`."""
        prompt, answer = item.content
        reply = yield self._asked(item)
        if self.settings.match == "strict":
            is_right = says_exactly(reply, answer)
        else:
            is_right = says_loosely(reply, answer, self.settings.last_words)
        values = {"exact_match": float(is_right)}
        return Judgement(values, str(reply).strip(), Shown(prompt, reply, answer))

    def lesson(self, item: Item[tuple[str, str]]) -> Lesson:
        """See :meth:`AskingKind.lesson`."""
        return RightReply(self._asked(item), item.content[1])

    def _asked(self, item: Item[tuple[str, str]]) -> AskText:
        return AskText(item.content[0], self.max_new_tokens, tuple(self.settings.stops))

    def stands_on(self) -> list[object]:
        """See :meth:`AskingKind.stands_on`."""
        own = self.settings
        return [own.match, own.last_words, self.max_new_tokens, own.stops]


def _item(row: QuestionRow, before: str) -> Item[tuple[str, str]]:
    """A row as it is asked.

    Raises:
        GenomeError: it is not of its form.
    """
    question, answer = row.text("question"), row.text("answer")
    prompt = f"{before}\n{question}" if before else question
    return Item((prompt, answer), question, [prompt, answer])

"""Asks questions with options and reads the letter of the reply: Model Swarms' multiple choice.

A row is ``{"question": ..., "choices": {"A": ..., "B": ...}, "answer": "A"}``.

Source: Feng et al., Model Swarms (2024), arXiv:2410.11163; their prompt.
Differs: a reply counts as a person would read it; ``match: loose`` reads it as theirs does. An
``icl_prompt`` stands before the questions of any file that has one, theirs before those of
``knowledge_crosswords`` alone. A chat template is applied where the tokenizer has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from evomerge.evaluators.reply_reading import chosen_option, loosely_chosen_option
from evomerge.evaluators.task_files import all_read, got
from evomerge.genome.block import Whole
from evomerge.genome.task_blocks import Task

_READERS = {"strict": chosen_option, "loose": loosely_chosen_option}
_INSTRUCTIONS = {  # by the name of the data; what all others get
    "hellaswag": "Please choose an option that best completes the sentence.",
    "knowledge_crosswords": "",
}
_INSTRUCTION = "Please choose an option that best answers the question."


class ChoiceSettings(QuestionSetSettings):
    """What stands under ``choice:``."""

    max_tokens: Annotated[Whole, Field(ge=1)] = Field(
        10, description="Tokens of a reply; more where models think before they answer."
    )
    match: Literal["strict", "loose"] = Field(
        "strict",
        description="How a reply is read: as a person would, or as Model Swarms does, for which "
        "the `A` of `Actually` is an answer.",
    )
    instruction: str | None = Field(
        None, description="What stands before each question. Default: that of Model Swarms."
    )
    language: Languages = None


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question with options.

    Attributes:
        prompt: As the model is asked.
        options: Key -> text.
        answer: The right key.
    """

    prompt: str
    options: dict[str, str]
    answer: str


class ChoiceQuestions(AskingKind[ChoiceQuestion]):
    """``choice: {file: mmlu.json, split: dev}``: the share of right letters."""

    Settings = ChoiceSettings
    measures: tuple[Measure, ...] = (
        Measure("acc", True, 0.0, 1.0, "share of right options"),
        Measure("answered", True, 0.0, 1.0, "share of replies that choose an option"),
    )

    reads_beginnings = True

    def __init__(self, task: Task, around: Around) -> None:
        super().__init__(task, around)
        self.max_new_tokens = self.settings.max_tokens

    def items(self) -> Iterator[Item[ChoiceQuestion]]:
        """See :meth:`AskingKind.items`."""
        questions = question_set(self.settings)
        own = self.settings.instruction
        first = _INSTRUCTIONS.get(questions.dataset, _INSTRUCTION) if own is None else own
        before = [part for part in (questions.before, first) if part]
        return iter(all_read(questions.rows, lambda row: _item(row, before)))

    def judge(self, item: Item[ChoiceQuestion]) -> Asking:
        """See :meth:`AskingKind.judge`."""
        reply = yield self._asked(item)
        chosen = self.read(reply, item.content)
        values = {"acc": float(chosen == item.content.answer), "answered": float(bool(chosen))}
        return Judgement(values, chosen or str(reply).strip(), self.shown(item.content, reply))

    def lesson(self, item: Item[ChoiceQuestion]) -> Lesson | None:
        """See :meth:`AskingKind.lesson`."""
        return RightReply(self._asked(item), item.content.answer)

    def _asked(self, item: Item[ChoiceQuestion]) -> AskText:
        return AskText(item.content.prompt, self.max_new_tokens)

    def read(self, reply: str, question: ChoiceQuestion) -> str | None:
        """The key that a reply chooses."""
        return _READERS[self.settings.match](reply, question.options)

    def shown(self, question: ChoiceQuestion, reply: str) -> Shown:
        """The question for people."""
        return Shown(question.prompt, reply, question.answer)

    def stands_on(self) -> list[object]:
        """See :meth:`AskingKind.stands_on`."""
        return [self.settings.match, self.max_new_tokens]

    def guess(self, items: Sequence[Item[ChoiceQuestion]]) -> float | None:
        """See :meth:`AskingKind.guess`."""
        return sum(1 / len(item.content.options) for item in items) / len(items)


def _item(row: QuestionRow, before: Sequence[str]) -> Item[ChoiceQuestion]:
    """A row as it is asked.

    Args:
        row: As the file has it.
        before: What stands before it.

    Raises:
        GenomeError: it is not of its form.
    """
    question, options, answer = row.text("question"), _options(row), row.text("answer")
    if answer not in options:
        keys = ", ".join(options)
        raise row.wrong(f"has the answer {answer!r}, which is none of its choices ({keys})")
    lines = [f"{key}: {text}" for key, text in options.items()]
    asked = "\n".join([f"Question: {question}", *lines])
    prompt = "\n".join([*before, asked, "The answer is"])
    return Item(ChoiceQuestion(prompt, options, answer), asked, [prompt, options, answer])


def _options(row: QuestionRow) -> dict[str, str]:
    """The options of a row, two at least.

    Raises:
        GenomeError: they are not of their form.
    """
    given = row.content.get("choices")
    is_right = isinstance(given, dict) and all(isinstance(text, str) for text in given.values())
    if not is_right or len(given) < 2 or not all(given):
        expected = 'expected {"A": text, "B": text, ...} with two options or more'
        raise row.wrong(f"has {got(row.content, 'choices')} under 'choices', {expected}")
    return {row.whole(key): row.whole(text) for key, text in given.items()}

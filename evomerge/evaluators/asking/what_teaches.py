"""What tasks that ask can teach: right replies, likely texts, what teachers say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from evomerge.evaluators.asking.asking_kind import (
    Item,
    LikelyText,
    RightOption,
    RightReply,
    TaughtText,
)
from evomerge.evaluators.asking.asking_task import FILTER, AskingTask
from evomerge.evaluators.asking.prompt_reader import PromptReader
from evomerge.evaluators.questions import (
    DELIMITERS,
    PERFECT,
    Answer,
    Question,
    Target,
    Taught,
    Tokens,
)
from evomerge.foundations.errors import EvomergeError
from evomerge.inference.base import Written
from evomerge.inference.windows import windows_of


def questions_of(task: AskingTask, reader: PromptReader, max_length: int) -> Iterator[Question]:
    """Every document of a task that can teach.

    Args:
        task: Its files have been read.
        reader: Reads prompts as they are scored.
        max_length: Tokens that the model reads at most.
    """
    metric, higher = f"{task.key.metric},{FILTER}", task.measures[0].higher_is_better
    for number, item in zip(task.numbers, task.items, strict=True):
        given = (task.name, (task.name, number), metric, higher)
        lesson = task.kind.lesson(item)
        if isinstance(lesson, RightReply):
            yield Question(
                *given,
                prompt=reader.prompt(lesson.asked, max_length),
                max_tokens=lesson.asked.max_tokens,
                target=_target(task, number, item, lesson, reader, max_length),
            )
        elif isinstance(lesson, RightOption):
            prompt = reader.prompt(lesson.asked, max_length)
            options = (reader.after(lesson.asked, f" {option}") for option in lesson.options)
            answers = tuple(Answer(prompt, option).cut(max_length) for option in options)
            yield Question(*given, answers, (lesson.right,), (1.0,) * len(answers))
        elif isinstance(lesson, LikelyText):
            tokens, prefix = reader.whole(lesson.text), reader.prefix
            for context, own in (
                windows_of(tokens, prefix, max_length) if prefix is not None else ()
            ):
                answer = Answer(tuple(context), tuple(own)).cut(max_length)
                yield Question(*given, (answer,))
        elif isinstance(lesson, TaughtText):
            read = reader.context(lesson.text, is_plain=True)
            own_tokens = tuple(read[: min(max_length, lesson.max_tokens)])
            yield Question(*given, taught=Taught(own_tokens, lesson.temperature, lesson.said))


def _target(
    task: AskingTask,
    number: int,
    item: Item[Any],
    lesson: RightReply,
    reader: PromptReader,
    max_length: int,
) -> Target | None:
    """The right reply of a document in its forms; None where nobody knows one."""
    asked, right = lesson.asked, lesson.right
    if right is None:
        return None
    ends: tuple[str | None, ...] = (*reader.stops(asked), None)  # None: the end of text
    forms = [*product(DELIMITERS, ("",) if task.kind.reads_beginnings else ends)]
    prompt = reader.prompt(asked, max_length)

    def form(index: int) -> Answer:
        delimiter, stop = forms[index]
        tokens: Tokens = reader.after(asked, f"{delimiter}{right}{stop or ''}")
        eos = reader.tokenizer.eos_token_id
        if stop is None and isinstance(eos, int):
            tokens = (*tokens, eos)
        return Answer(prompt, tokens).cut(max_length)

    def is_right() -> bool:
        value = _value_of(replace(task, items=(item,), numbers=(number,)), right)
        if value is None:
            return False
        best = PERFECT[task.measures[0].higher_is_better]
        return value >= best if task.measures[0].higher_is_better else value <= best

    return Target(len(forms), form, is_right)


def _value_of(task: AskingTask, reply: str) -> float | None:
    """What the one document of a task is worth with a reply; None where more is asked for that."""
    (hearing,) = task.hearings()
    try:
        asked = hearing.go_on({})
        if len(asked) != 1 or hearing.go_on({asked[0]: Written(reply, ())}):
            return None
    except EvomergeError:  # the kind cannot judge it
        return None
    finally:
        hearing.asking.close()
    (judgement,) = hearing.judgements or ()
    return judgement.values.get(task.key.metric)

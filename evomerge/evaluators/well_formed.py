"""Counts replies of a wanted form: JSON, with the keys that a program needs, or a pattern.

A row of the file is ``{"prompt": ...}``, as of ``reward``. The whole reply has to be of the form:
what stands around it would be in the way of a program that reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn

import regex  # type: ignore[import-untyped]  # it has no types
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
from evomerge.evaluators.question_set import QuestionSetSettings, prompt_items
from evomerge.genome.block import Whole, fits
from evomerge.genome.misfit import MisfitError
from evomerge.genome.task_blocks import Task

PATTERN_SECONDS = 1.0  # what a reply is given to match; honest patterns take milliseconds


class FormatSettings(QuestionSetSettings):
    """What stands under ``format:``."""

    keys: list[str] | None = Field(
        None,
        description="The reply is a JSON object with these keys, and perhaps others. Default: any "
        "JSON, where there is no `pattern`.",
    )
    pattern: str | None = Field(
        None,
        description="In place of JSON a regular expression that all of the reply matches, as the "
        "package `regex` reads it. A reply that it takes more than a second for does not.",
    )
    max_tokens: Annotated[Whole, Field(ge=1)] = Field(200, description="Tokens of a reply.")
    stops: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="Texts that end a reply."
    )
    language: Languages = None

    @fits("keys", "pattern")
    def _one_form(self) -> Iterator[MisfitError]:
        if self.keys is not None and self.pattern is not None:
            yield MisfitError("keys of JSON beside a pattern", "pattern", fix="Give one of them.")

    @fits("pattern")
    def _a_pattern(self) -> Iterator[MisfitError]:
        try:
            regex.compile(self.pattern or "")
        except regex.error as error:
            yield MisfitError(f"{self.pattern!r} is no regular expression ({error})")
        except RecursionError:
            n = len(self.pattern or "")
            yield MisfitError(
                f"a pattern of {n} characters is nested too deeply", fix="Shorten it."
            )


class WellFormed(AskingKind[str]):
    """``format: {file: prompts.json, keys: [name, age]}``: the share of replies of that form."""

    Settings = FormatSettings
    measures = (Measure("well_formed", True, 0.0, 1.0, "share of replies of the wanted form"),)

    def __init__(self, task: Task, around: Around) -> None:
        super().__init__(task, around)
        self.max_new_tokens = self.settings.max_tokens

    def items(self) -> Iterator[Item[str]]:
        """See :meth:`AskingKind.items`."""
        return prompt_items(self.settings)

    def judge(self, item: Item[str]) -> Asking:
        """See :meth:`AskingKind.judge`."""
        reply = yield self._asked(item)
        said = str(reply).strip()
        try:
            fits, told = self._fits(said), said
        except TimeoutError:  # a pattern that tries too many ways to match
            fits, told = False, f"{said} (the pattern takes more than {PATTERN_SECONDS:g} s)"
        return Judgement({"well_formed": float(fits)}, told, Shown(item.content, told))

    def lesson(self, item: Item[str]) -> Lesson:
        """See :meth:`AskingKind.lesson`: a reply of that form, once a model has given one."""
        return RightReply(self._asked(item))

    def stands_on(self) -> list[Any]:
        """See :meth:`AskingKind.stands_on`."""
        own = self.settings
        return [own.keys, own.pattern, own.max_tokens, own.stops]

    def _asked(self, item: Item[str]) -> AskText:
        return AskText(item.content, self.max_new_tokens, tuple(self.settings.stops))

    def _fits(self, reply: str) -> bool:
        """Whether a reply is of the form.

        Raises:
            TimeoutError: the pattern takes too long.
        """
        own = self.settings
        if own.pattern is not None:
            found = regex.fullmatch(own.pattern, reply, regex.DOTALL, timeout=PATTERN_SECONDS)
            return found is not None
        try:
            found = json.loads(reply, parse_constant=_no_json)
        except (ValueError, RecursionError):
            return False
        return own.keys is None or (isinstance(found, dict) and found.keys() >= {*own.keys})


def _no_json(name: str) -> NoReturn:
    """Refuses ``NaN`` and ``Infinity``, which Python reads and JSON has not (RFC 8259, 6)."""
    raise ValueError(name)

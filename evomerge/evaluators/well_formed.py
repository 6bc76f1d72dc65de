"""Counts replies of a wanted form: JSON, with the keys that a program needs, or a pattern.

A row of the file is ``{"prompt": ...}``, as of ``reward``. The whole reply has to be of the form:
what stands around it would be in the way of a program that reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

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
from evomerge.evaluators.question_set import QuestionSetSettings, question_set
from evomerge.genome.block import Whole, fits
from evomerge.genome.misfit import MisfitError
from evomerge.genome.task_blocks import Task


class FormatSettings(QuestionSetSettings):
    """What stands under ``format:``."""

    keys: list[str] | None = Field(
        None,
        description="The reply is a JSON object with these keys, and perhaps others. Default: any "
        "JSON, where there is no `pattern`.",
    )
    pattern: str | None = Field(
        None, description="In place of JSON a regular expression that all of the reply matches."
    )
    max_tokens: Annotated[Whole, Field(ge=1)] = Field(200, description="Tokens of a reply.")
    stops: list[str] = Field(default_factory=list, description="Texts that end a reply.")
    language: Languages = None

    @fits("keys", "pattern")
    def _one_form(self) -> Iterator[MisfitError]:
        if self.keys is not None and self.pattern is not None:
            yield MisfitError("keys of JSON beside a pattern", "pattern", fix="Give one of them.")

    @fits("pattern")
    def _a_pattern(self) -> Iterator[MisfitError]:
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            yield MisfitError(f"{self.pattern!r} is no regular expression ({error})")


class WellFormed(AskingKind[str]):
    """``format: {file: prompts.json, keys: [name, age]}``: the share of replies of that form."""

    Settings = FormatSettings
    measures = (Measure("well_formed", True, 0.0, 1.0, "share of replies of the wanted form"),)

    def __init__(self, task: Task, around: Around) -> None:
        super().__init__(task, around)
        self.max_new_tokens = self.settings.max_tokens

    def items(self) -> Iterator[Item[str]]:
        """See :meth:`AskingKind.items`."""
        for row in question_set(self.settings).rows:
            prompt = row.text("prompt")
            yield Item(prompt, prompt)

    def judge(self, item: Item[str]) -> Asking:
        """See :meth:`AskingKind.judge`."""
        reply = yield self._asked(item)
        said = str(reply).strip()
        return Judgement({"well_formed": float(self._fits(said))}, said, Shown(item.content, said))

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
        own = self.settings
        if own.pattern is not None:
            return re.fullmatch(own.pattern, reply, re.DOTALL) is not None
        try:
            found = json.loads(reply)
        except (ValueError, RecursionError):
            return False
        return own.keys is None or (isinstance(found, dict) and found.keys() >= {*own.keys})

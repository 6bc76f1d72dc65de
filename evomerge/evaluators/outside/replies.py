"""What a model replied to a judge from outside, and what of it the judge is told.

Of a reply in another language than the wanted ones it is told nothing: an empty text, as lm-eval's
metrics get one. What that is worth is the judge's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evomerge.evaluators.asking.asked import AskModel, AskText, Prompt, Tokens
from evomerge.evaluators.asking.asking_kind import Judgement
from evomerge.evaluators.asking.language_gate import IN_LANGUAGE, LanguageGate
from evomerge.inference.base import Written

Exchange = Sequence[tuple[str, str]]  # what was said to the model, and its reply


class Withheld(Written):
    """The empty text that stands for a reply in another language."""

    __slots__ = ()


class Replies:
    """Those of one conversation.

    Args:
        languages: Codes of languages that they have to be in one of; empty for any.

    Attributes:
        exchange: In the order in which they were asked for, as the model wrote them.
    """

    def __init__(self, languages: tuple[str, ...]) -> None:
        self._gate = LanguageGate(languages) if languages else None
        self._others: dict[str, str | None] = {}  # reply -> the other language that it is in
        self.exchange: list[tuple[str, str]] = []

    def told(self, asked: Sequence[AskModel], answers: Sequence[Any]) -> list[Any]:
        """What the judge is told of some answers.

        Args:
            asked: What it wanted of the model.
            answers: To each.
        """
        found = []
        for one, answer in zip(asked, answers, strict=True):
            is_reply = isinstance(one, AskText)
            if isinstance(one, AskText):
                self.exchange.append((_shown(one.prompt), str(answer)))
            found.append(Withheld("", ()) if is_reply and self._other(str(answer)) else answer)
        return found

    def marked(self, exchange: Exchange) -> list[tuple[str, str]]:
        """Replies for people, with a note behind those that were not told."""
        return [(prompt, f"{reply}{self._note(reply)}") for prompt, reply in exchange]

    def judged(self, judgements: Sequence[Judgement], exchange: Exchange) -> tuple[Judgement, ...]:
        """Judgements that say whether their replies were told.

        Args:
            judgements: Of each document.
            exchange: Of each, where one reply belongs to it; empty texts where none does.
        """
        if self._gate is None or len(exchange) != len(judgements):
            return (*judgements,)
        return tuple(
            replace(one, values={**one.values, IN_LANGUAGE.name: float(not self._other(reply))})
            if prompt
            else one
            for one, (prompt, reply) in zip(judgements, exchange, strict=True)
        )

    def _other(self, reply: str) -> str | None:
        if self._gate is None:
            return None
        if reply not in self._others:
            self._others[reply] = self._gate.other(reply)
        return self._others[reply]

    def _note(self, reply: str) -> str:
        other = self._other(reply)
        return self._gate.note([other]) if self._gate is not None and other else ""


def _shown(prompt: Prompt) -> str:
    """The last that was said to the model."""
    if isinstance(prompt, Tokens):
        return f"{len(prompt.ids)} tokens"
    return prompt if isinstance(prompt, str) else str(prompt[-1].content)

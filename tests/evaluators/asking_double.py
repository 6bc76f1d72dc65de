"""A kind of judge for tests, written on the layer that real ones are written on.

It stands in the table beside the others where :func:`with_echo` is entered.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
from pydantic import Field

from evomerge.evaluators import EVALUATORS
from evomerge.evaluators.asking.asked import AskLikelihood, AskOther, AskText, Message, Outsider
from evomerge.evaluators.asking.asking_kind import AskingKind, Item, Judgement, Shown
from evomerge.evaluators.kind_of_task import Measure, TaskSettings
from evomerge.foundations.findings import warning

PROMPTS = ("the quick brown", "a lazy dog", "five dozen jugs", "the quick brown")
TOKENS = 6


@contextmanager
def with_echo():
    """Has the table of evaluators hold this one, under ``echo:``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EVALUATORS._targets, "echo", "tests.evaluators.asking_double:Echo")
        yield


class Critic(Outsider):
    """Counts letters, and remembers what it was asked at a time, and in which thread."""

    def __init__(self):
        self.heard, self.threads = [], []

    def answers(self, asked, deadline):
        self.heard.append(list(asked))
        self.threads.append(threading.current_thread() is threading.main_thread())
        return [float(len(text)) for text in asked]


class SlowCritic(Critic):
    waits = True


CRITIC, SLOW_CRITIC = Critic(), SlowCritic()


class EchoSettings(TaskSettings):
    prompts: str = Field("all", description="`all`, or the first so many.")
    fails: bool = False
    temperature: float = 0.0


class Echo(AskingKind[str]):
    """Has a text written, then an answer to it; asks two critics how long the first is."""

    Settings = EchoSettings
    measures = (
        Measure("letters", higher_is_better=True, low=0.0),
        Measure("surprise", higher_is_better=False),
    )
    rounds = 2
    max_new_tokens = TOKENS

    def items(self):
        count = len(PROMPTS) if self.settings.prompts == "all" else int(self.settings.prompts)
        return [Item(prompt, prompt) for prompt in PROMPTS[:count]]

    def judge(self, item):
        text = yield AskText(item.content, TOKENS, temperature=self.settings.temperature)
        if self.settings.fails:
            raise ZeroDivisionError("no luck")
        chat = (Message("user", item.content), Message("assistant", text), Message("user", "so?"))
        again, likelihood, letters, slowly = yield [
            AskText(chat, TOKENS, stops=("\n\n",)),
            AskLikelihood(item.content, " dog"),
            AskOther(CRITIC, str(text)),
            AskOther(SLOW_CRITIC, str(text)),
        ]
        assert letters == slowly == len(text)
        values = {"letters": letters, "surprise": -likelihood[0]}
        return Judgement(values, str(text), Shown(item.content, f"{text} / {again}", "nothing"))

    def findings(self):
        yield warning("it only echoes", "prompts", "Ask something.")

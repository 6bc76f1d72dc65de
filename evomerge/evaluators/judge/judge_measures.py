"""What a judge reports beside its verdict: single turns, its own error, what it took."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from evomerge.evaluators.judge.judge_settings import JudgeSettings
from evomerge.evaluators.judge.kept_judgments import Remark
from evomerge.evaluators.judge.rating import HIGHEST, LOWEST
from evomerge.evaluators.judge.ruling import Duel, Grade
from evomerge.evaluators.kind_of_task import Measure

TURNS = (
    Measure("first_turn", True, LOWEST, HIGHEST, "the same of first turns alone"),
    Measure("second_turn", True, LOWEST, HIGHEST, "the same of second turns alone"),
)
SPREAD = Measure("judge_stderr", False, 0.0, what="standard error of a question's repeats")
TOKENS = (
    Measure("prompt_tokens", False, 0.0, what="tokens that the judge read for a question"),
    Measure("completion_tokens", False, 0.0, what="tokens that the judge wrote for a question"),
)
COST = Measure("cost", False, 0.0, what="what a question's judgments cost, where prices are given")


def measures_for(settings: JudgeSettings) -> Iterator[Measure]:
    """Those of all that come with the settings."""
    main = (Grade if settings.opponent is None else Duel).measure
    yield main
    for turn in TURNS:
        yield replace(turn, low=main.low, high=main.high)
    if settings.repeats > 1:
        yield SPREAD
    yield from TOKENS
    if settings.price(0, 0) is not None:
        yield COST


def token_values(settings: JudgeSettings, remarks: Sequence[Remark]) -> dict[str, float]:
    """What judgments took when they were asked for."""
    read = float(sum(one.prompt_tokens for one in remarks))
    written = float(sum(one.completion_tokens for one in remarks))
    cost = settings.price(read, written)
    tokens = dict(zip((one.name for one in TOKENS), (read, written), strict=True))
    return tokens if cost is None else {**tokens, COST.name: cost}


def spread_values(by_turn: Sequence[Sequence[float]], repeats: int) -> dict[str, float]:
    """The standard error of a value by its repeats; nothing where one is missing."""
    if repeats < 2 or any(len(own) < repeats for own in by_turn):
        return {}
    values = [sum(own) / len(own) for own in zip(*by_turn, strict=True)]
    mean = sum(values) / repeats
    variance = math.fsum((one - mean) ** 2 for one in values) / (repeats - 1)
    return {SPREAD.name: math.sqrt(variance / repeats)}

"""Has a reward model judge replies to prompts, also by their length: Model Swarms' rm tasks.

A row is ``{"prompt": ...}``. A reply is what the model writes to it; the reward model is one that
transformers loads for the classification of sequences, with a single label.

Source: Feng et al., Model Swarms (2024), arXiv:2410.11163.
Differs: any such reward model; rewards are scaled where ``reward_range`` says so, and no number of
one model stands in the code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from evomerge.evaluators.asking.asked import AskOther, AskText
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
from evomerge.evaluators.beside import Room
from evomerge.evaluators.kind_of_task import Languages, Measure
from evomerge.evaluators.question_set import QuestionSetSettings, prompt_items
from evomerge.evaluators.reward_model import Reward, RewardModel, reward_model
from evomerge.evaluators.side_model import SideModel
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.findings import Finding, error, warning
from evomerge.genome.block import Number, Whole, fits
from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName
from evomerge.genome.task_blocks import Task
from evomerge.inference.base import LENGTHS

_CLASSIFIES = "ForSequenceClassification"


class RewardSettings(QuestionSetSettings):
    """What stands under ``reward:``."""

    model: ModelName = Field(description="The reward model: Hub id, `id@revision` or folder.")
    max_tokens: Annotated[Whole, Field(ge=1)] = Field(200, description="Tokens of a reply.")
    shape: Literal["default", "concise", "verbose", "reverse"] = Field(
        "default",
        description="What is scored: the reward; the mean of it and of brevity, or of length; or "
        "the reward with a minus sign.",
    )
    reward_range: tuple[Number, Number] | None = Field(
        None,
        description="Rewards that count as 0 and as 1, others cut to these; `concise` and "
        "`verbose` need it.",
    )
    length_range: tuple[Whole, Whole] = Field(
        (10, 201), description="Tokens of a reply that count as short and as long."
    )
    device: str = Field("auto", description="Where it runs; `auto` is a GPU where there is one.")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Of its weights. Default: that of its files."
    )
    language: Languages = None

    @fits("model")
    def _one_model(self) -> Iterator[MisfitError]:
        if self.model.is_stage or self.model.lora is not None:
            yield MisfitError(
                f"{self.model.text!r} is no reward model by itself",
                fix="Name a Hub id or a folder.",
            )

    @fits("shape", "reward_range")
    def _on_one_scale(self) -> Iterator[MisfitError]:
        if self.shape in ("concise", "verbose") and self.reward_range is None:
            yield MisfitError(
                f"shape {self.shape} adds reward and length, which needs a reward_range",
                fix="Give the rewards of poor and of good replies, e.g. reward_range: [-3, 3].",
            )

    @fits("reward_range", "length_range")
    def _rising(self) -> Iterator[MisfitError]:
        for name in ("reward_range", "length_range"):
            low, high = getattr(self, name) or (0, 1)
            if low >= high:
                yield MisfitError(f"{name} [{low:g}, {high:g}] does not rise")


_SCORE = Measure("score", True, what="reward, scaled and shaped as the settings say")
_REWARD = Measure("reward", True, what="what the reward model says")
_TOKENS = Measure("tokens", False, low=0.0, what="tokens of a reply; more are better for verbose")


class Rewarded(AskingKind[str]):
    """``reward: {file: rm.json, model: org/reward}``: what a reward model finds of replies."""

    Settings = RewardSettings
    measures: tuple[Measure, ...] = (_SCORE, _REWARD, _TOKENS)

    def __init__(self, task: Task, around: Around) -> None:
        super().__init__(task, around)
        own = self.settings
        self.max_new_tokens = own.max_tokens
        tokens = Measure("tokens", own.shape == "verbose", low=0.0, what=_TOKENS.what)
        ends = (-1.0, 0.0) if own.shape == "reverse" else (0.0, 1.0)
        low, high = ends if own.reward_range is not None else (-math.inf, math.inf)
        score = Measure("score", True, low, high, _SCORE.what)
        self._is_scaled = own.reward_range is not None or own.shape != "default"
        self.measures = (score, _REWARD, tokens) if self._is_scaled else (_REWARD, tokens)
        self._judge = SideModel.allowed(own.model, own.device, own.dtype, around.permissions)

    def items(self) -> Iterator[Item[str]]:
        """See :meth:`AskingKind.items`."""
        return prompt_items(self.settings)

    def judge(self, item: Item[str]) -> Asking:
        """See :meth:`AskingKind.judge`."""
        reply = yield self._asked(item)
        said = str(reply).strip()
        reward = yield AskOther(self._model, (item.content, said))
        values = {"reward": reward.value, "tokens": float(reward.n_tokens)}
        if self._is_scaled:
            values["score"] = self._score(reward)
        tokens = f"{reward.n_tokens} tokens{'' if reward.is_whole else ', not all of them read'}"
        shown = f"{said} (reward {reward.value:.3g}, {tokens})"
        return Judgement(values, said, Shown(item.content, shown))

    def lesson(self, item: Item[str]) -> Lesson:
        """See :meth:`AskingKind.lesson`."""
        return RightReply(self._asked(item))

    @cached_property
    def _model(self) -> RewardModel:
        return reward_model(self._judge)

    def _asked(self, item: Item[str]) -> AskText:
        return AskText(item.content, self.max_new_tokens)

    def stands_on(self) -> list[object]:
        """See :meth:`AskingKind.stands_on`; every byte of the reward model."""
        own = self.settings
        scale = [own.shape, own.reward_range, own.length_range, own.max_tokens, own.dtype]
        return [self._judge.fingerprint, *scale]

    def room(self) -> Room:
        """See :meth:`AskingKind.room`."""
        held = self._judge.beside(by_turns=False)
        return {f"reward model {self.settings.model.text}": held} if held.n_bytes else {}

    def findings(self) -> Iterator[Finding]:
        """See :meth:`AskingKind.findings`: whether the reward model is one."""
        facts = self._judge.facts
        if isinstance(facts, EvomergeError):
            yield from self._judge.findings("model")
            return
        names = facts.config.get("id2label")
        n_labels = len(names) if names else facts.config.get("num_labels", 2)  # as transformers
        if facts.architecture and not facts.architecture.endswith(_CLASSIFIES):
            yield error(
                f"{facts.name} is {facts.architecture}, expected a model whose architecture ends "
                f"in {_CLASSIFIES}",
                "model",
                "Name a reward model; a model that writes can judge by `judge:`.",
            )
        elif facts.architecture and n_labels != 1:
            yield error(
                f"{facts.name} has {n_labels} labels, expected one: a reward is one number, and "
                "which of several labels is good nobody says",
                "model",
                "Name a reward model with a single label.",
            )
        yield from self._judge.findings("model")
        lengths = (facts.text_config.get(name) for name in LENGTHS)
        most = next((one for one in lengths if isinstance(one, int)), None)
        if most is not None and most <= self.max_new_tokens:
            yield warning(
                f"{facts.name} reads at most {most} tokens, prompt and reply together, and replies "
                f"may have {self.max_new_tokens}: their ends are not judged",
                "max_tokens",
                "Lower max_tokens, or name a model that reads more.",
            )

    def _score(self, reward: Reward) -> float:
        """The reward on its scale, with the length of the reply where that counts."""
        own = self.settings
        scaled = (
            reward.value if own.reward_range is None else _share(reward.value, own.reward_range)
        )
        length = _share(reward.n_tokens, own.length_range)
        shaped = {
            "default": scaled,
            "reverse": -scaled,
            "verbose": (scaled + length) / 2,
            "concise": (scaled + 1 - length) / 2,
        }
        return shaped[own.shape]


def _share(value: float, ends: tuple[float, float]) -> float:
    """Where a value lies between two, cut to [0, 1]."""
    low, high = ends
    return min(max((value - low) / (high - low), 0.0), 1.0)

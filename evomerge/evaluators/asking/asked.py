"""What a judge may ask: of the model that is scored, and of somebody else.

Equal requests are answered once in a trial, whichever tasks ask them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from evomerge.foundations.deadline import Deadline


class Message(NamedTuple):
    """One turn of a chat.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        content: What was said.
    """

    role: str
    content: str


# A text is what one user says. Chats are in the model's own template where the genome's
# `evaluation:` wants one and the tokenizer has it; else the text stands alone.
Prompt = str | tuple[Message, ...]


@dataclass(frozen=True)
class AskText:
    """Has the model write; the answer is a :class:`~evomerge.inference.base.Written`, a str.

    It is a ``CutText`` where the length limit ended it.

    Attributes:
        prompt: What it is written after.
        max_tokens: At most, from 1.
        stops: Texts that end it; it is cut before the first of them.
        temperature: 0 for the likeliest tokens; else tokens are drawn, seeded.
        draw: Which of several drawn texts; equal ones are the same text.
        is_plain: Whether the prompt is read as it is, whatever templates there are.
    """

    prompt: Prompt
    max_tokens: int
    stops: tuple[str, ...] = ()
    temperature: float = 0.0
    draw: int = 0
    is_plain: bool = False


@dataclass(frozen=True)
class AskLikelihood:
    """How likely a text goes on so; the answer is a log-likelihood, and if it is the likeliest.

    Attributes:
        prompt: What stands before it.
        continuation: What is scored; at least one token.
        is_plain: As of :class:`AskText`.
    """

    prompt: Prompt
    continuation: str
    is_plain: bool = False


@dataclass(frozen=True)
class AskTextLikelihood:
    """How likely a whole text is; the answer is its log-likelihood, in nats.

    Every token is scored once; what is longer than the model reads, in windows.

    Attributes:
        text: Without anything that a tokenizer would add.
    """

    text: str


@dataclass(frozen=True)
class AskNextTokens:
    """What comes next; the answer is a tensor, (vocabulary), of log-probabilities in float32.

    Attributes:
        tokens: Ids of what is read, at least one; its end where it is longer than the model reads.
    """

    tokens: tuple[int, ...]


class LikelyToken(NamedTuple):
    """A token that may come next.

    Attributes:
        token: Its id.
        text: As the tokenizer writes it alone.
        log_probability: Natural logarithm.
    """

    token: int
    text: str
    log_probability: float


@dataclass(frozen=True)
class AskLikelyTokens:
    """The likeliest next tokens; the answer is a tuple of :class:`LikelyToken`, likeliest first.

    Attributes:
        prompt: What stands before them.
        top: How many, at most the whole vocabulary.
        is_plain: As of :class:`AskText`.
    """

    prompt: Prompt
    top: int
    is_plain: bool = False


class Outsider(ABC):
    """Somebody else than the model, who answers in batches: an endpoint, a program, a reward model.

    Those who are the same object are one: kinds that share one get their requests answered
    together.

    Attributes:
        waits: Whether it waits more than it computes: then it is asked in a thread of its own,
            while the model answers.
    """

    waits: ClassVar[bool] = False

    @abstractmethod
    def answers(self, asked: Sequence[Any], deadline: Deadline) -> Sequence[Any]:
        """The answer to each, in their order; several at once is its own business.

        Args:
            asked: What :class:`AskOther` carries; no two are equal.
            deadline: Of the trial, to be looked at.

        Raises:
            TrialTimeoutError: the deadline is over.
            EvaluationError: there is no answer, and the candidate cannot be scored without.
            RunError: there will never be one.
        """

    def give_up(self) -> None:  # noqa: B027  # most are done soon
        """Ends :meth:`answers` early, from another thread: nobody waits for it any more."""


@dataclass(frozen=True)
class AskOther:
    """Asks somebody else.

    Attributes:
        whom: The one.
        content: What it understands; two that are equal get one answer.
    """

    whom: Outsider
    content: Hashable


AskModel = AskText | AskLikelihood | AskTextLikelihood | AskNextTokens | AskLikelyTokens
Asked = AskModel | AskOther

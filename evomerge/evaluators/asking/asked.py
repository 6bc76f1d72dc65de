"""What a judge may ask: of the model that is scored, and of somebody else.

Equal requests are answered once in a trial, whichever tasks ask them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from evomerge.foundations.deadline import Deadline

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class Message(NamedTuple):
    """One turn of a chat.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        content: What was said.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Tokens:
    """A prompt that somebody has read already.

    Attributes:
        ids: At least one.
    """

    ids: tuple[int, ...]


# A text is what one user says. Chats are in the model's own template where the genome's
# `evaluation:` wants one and the tokenizer has it; else the text stands alone.
Prompt = str | tuple[Message, ...] | Tokens


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
        is_answer: Whether a document is answered by it, in the language that is wanted; else it
            is a word on the way. Requests that differ in this alone are the same.
    """

    prompt: Prompt
    max_tokens: int
    stops: tuple[str, ...] = ()
    temperature: float = 0.0
    draw: int = 0
    is_plain: bool = False
    is_answer: bool = field(default=True, compare=False)


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


class Places(NamedTuple):
    """Places of a text, and what may come there.

    Attributes:
        tokens: All of the text.
        first: How many of them stand before the first place.
        log_probabilities: Of every token at each place, float32, (places, vocabulary).
        tokenizer: Of the model.
    """

    tokens: tuple[int, ...]
    first: int
    log_probabilities: torch.Tensor
    tokenizer: PreTrainedTokenizerBase


class PlacesReader(Protocol):
    """Makes of a whole vocabulary's numbers the few that are wanted; equal ones read alike."""

    def __call__(self, places: Places, /) -> Any:
        """What is wanted, without a view of the numbers."""

    def __hash__(self) -> int:
        """Requests are known by it."""


@dataclass(frozen=True)
class AskPlaces:
    """What may come at places of a text; the answer is what ``read`` makes of them.

    The last place is behind the whole text; a text that the model cannot read whole has no answer.

    Attributes:
        prompt: What stands before.
        read: What is wanted of the places.
        written: Tokens that follow the prompt.
        is_whole: Whether places begin behind the prompt's first token, instead of its last.
        is_plain: As of :class:`AskText`.
    """

    prompt: Prompt
    read: PlacesReader
    written: tuple[int, ...] = ()
    is_whole: bool = False
    is_plain: bool = False


@dataclass(frozen=True)
class Likeliest:
    """Of the last place the likeliest tokens, likeliest first.

    Attributes:
        top: How many, at most the whole vocabulary.
    """

    top: int

    def __call__(self, places: Places) -> tuple[LikelyToken, ...]:
        """As a tuple."""
        last = places.log_probabilities[-1]
        values, tokens = last.topk(min(self.top, len(last)))
        texts = (str(places.tokenizer.decode([token])) for token in tokens.tolist())
        return tuple(map(LikelyToken, tokens.tolist(), texts, values.tolist()))


@dataclass(frozen=True)
class AskTokens:
    """How a prompt reads; the answer is its tokens, and how many the model reads at most.

    Attributes:
        prompt: A text, a chat, or tokens.
        is_plain: As of :class:`AskText`.
    """

    prompt: Prompt
    is_plain: bool = False


@dataclass(frozen=True)
class AskFolder:
    """Has the model written down, with its tokenizer, as transformers does; the answer is None.

    Attributes:
        folder: Where; it is there, and empty.
    """

    folder: str


@dataclass(frozen=True, eq=False)
class AskInTokens:
    """Many requests that somebody has read already; the answer is a list, one answer to each.

    Attributes:
        like: Which of the requests above they are.
        requests: As an engine takes them: prompts, continuations, or whole texts in tokens; the
            same objects from trial to trial, by which the engine knows them.
        seed: What texts are drawn by that have no seed of their own; None where all have.
    """

    like: type[AskText | AskLikelihood | AskTextLikelihood]
    requests: Sequence[Any]
    seed: int | None = None


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
        """Ends :meth:`answers` early, from another thread: nobody waits for it any more.

        It comes again until that is over: the first time, it may not have begun.
        """


@dataclass(frozen=True)
class AskOther:
    """Asks somebody else.

    Attributes:
        whom: The one.
        content: What it understands; two that are equal get one answer.
    """

    whom: Outsider
    content: Hashable


AskModel = (
    AskText
    | AskLikelihood
    | AskTextLikelihood
    | AskNextTokens
    | AskPlaces
    | AskTokens
    | AskFolder
    | AskInTokens
)
Asked = AskModel | AskOther

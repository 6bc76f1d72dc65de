"""The contract of every inference engine: tokens in, log-likelihoods and texts out.

What the tokens mean is the caller's: prompts, templates, options and stop texts are made by whoever
asks. An engine answers for the model that is bound to it, and never with another one's weights.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from typing_extensions import Self

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError
from evomerge.inference.once import Once
from evomerge.inference.windows import windows_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

LogLikelihood = tuple[float, bool]  # and whether greedy decoding gives the same tokens
PlacedRow = tuple[
    Sequence[int], int
]  # tokens, and how many are before the first place that is read
DEFAULT_CONTEXT = 2048  # of a model that does not say how much it reads
# Of a configuration: tokens that the model reads at most.
LENGTHS = ("n_positions", "max_position_embeddings", "n_ctx")
_ENDLESS = int(1e30)  # what transformers writes where a tokenizer knows no longest text


class Continuation(NamedTuple):
    """Tokens to be scored, and what stands before them; neither list is changed.

    Attributes:
        context: At least one token.
        tokens: From one to the model's context length.
    """

    context: list[int]
    tokens: list[int]


@dataclass(frozen=True)
class GenerationRequest:
    """How a text is written.

    Attributes:
        max_tokens: At most; at least one.
        stops: Texts that end it; the text is cut before the first of them.
        sampling: do_sample, temperature, top_p, num_beams and the like, named as transformers does;
            greedy without any.
        seed: Of the text's own randomness; None draws from torch's global stream.
    """

    max_tokens: int
    stops: tuple[str, ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    @cached_property
    def key(self) -> str:
        """Equal for equal ones."""
        given = (self.max_tokens, self.stops, self.sampling, self.seed)
        return json.dumps(given, sort_keys=True, default=str)

    @property
    def is_sampled(self) -> bool:
        """Whether tokens are drawn rather than the likeliest."""
        return bool(self.sampling.get("do_sample"))

    @property
    def n_beams(self) -> int:
        """Texts followed at once; 1 but for a beam search."""
        return int(self.sampling.get("num_beams") or 1)


class Prompt(NamedTuple):
    """What a text is written after, and how."""

    tokens: tuple[int, ...]
    generation: GenerationRequest


class Written(str):
    """A generated text, cut before its first stop text.

    Attributes:
        tokens: What was generated, up to and with what ended it.
    """

    __slots__ = ("tokens",)
    tokens: tuple[int, ...]

    def __new__(cls, text: str, tokens: Sequence[int]) -> Self:
        """The text of some tokens."""
        written = super().__new__(cls, text)
        written.tokens = tuple(tokens)
        return written

    def __getnewargs__(self) -> tuple[str, tuple[int, ...]]:  # type: ignore[override]  # str has one
        """By what it is copied and sent to other processes."""
        return str(self), self.tokens


class CutText(Written):
    """One that its length limit ended, and neither a stop text nor EOS."""

    __slots__ = ()


class Engine(ABC):
    """Answers with whatever model is bound to it.

    The same list of requests may come again and again, for model after model: what depends on no
    weights is then worked out once. So requests are not changed after they were given.

    Args:
        tokenizer: Of every model that will be bound; for stop texts and the texts of tokens.
        batch_size: Rows of a forward pass, or ``"auto"`` for what the memory holds.
        exactness: ``"fast"`` may share work between rows, ``"reference"`` computes row by row.

    Attributes:
        module: The bound model.
        deadline: Of its trial, looked at between forward passes.
        max_length: Its context length, in tokens.
    """

    module: PreTrainedModel
    deadline: Deadline
    max_length: int

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int | Literal["auto"] = "auto",
        exactness: Literal["fast", "reference"] = "fast",
    ) -> None:
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.exactness = exactness
        self._once = Once()

    @classmethod
    @abstractmethod
    def tokens_per_pass(
        cls, device: str, batch_size: int | Literal["auto"] = "auto", longest: int = 0
    ) -> int:
        """Tokens that one forward pass reads at most, in rows as in trees.

        Args:
            device: Where the model is.
            batch_size: As an engine is given it.
            longest: Tokens of the longest row.
        """

    def bind(
        self, module: PreTrainedModel, deadline: Deadline | None = None, batch_divisor: int = 1
    ) -> None:
        """Sets the model that answers from now on.

        Args:
            module: What the merger made.
            deadline: Looked at before each forward pass; None for no limit.
            batch_divisor: What the batch is divided by, because memory ran out before.
        """
        self.module = module
        self.deadline = deadline or Deadline()
        self.max_length = context_length(module.config, self.tokenizer)

    @abstractmethod
    def log_likelihoods(
        self, asked: Sequence[Continuation], kind: str = "continuations"
    ) -> list[LogLikelihood]:
        """Log-likelihood of each continuation, in float32, and whether greedy decoding gives it.

        Args:
            asked: The continuations.
            kind: Of requests; what was worked out for the last list of each kind is kept.

        Raises:
            TrialTimeoutError: the deadline is over.
        """

    def text_log_likelihoods(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """Log-likelihood of each whole text, in windows of the model's length (:mod:`windows`).

        The first token stands after the prefix token.
        """
        windows, flat = self._once(("windows", self.max_length), texts, lambda: self._cut(texts))
        scores = (score for score, _ in self.log_likelihoods(flat, "windows"))
        return [sum(islice(scores, len(own))) for own in windows]

    def windows(self, tokens: Sequence[int]) -> list[Continuation]:
        """A whole text, in parts that fit the model.

        Raises:
            EvaluationError: the tokenizer has nothing for a text to begin with.
        """
        prefix = self.prefix_token_id
        if prefix is None:
            raise EvaluationError(
                "the tokenizer has neither BOS nor EOS for a text to begin with",
                where="evaluate",
                fix="Choose another task or tokenizer.",
            )
        return [Continuation(*window) for window in windows_of(tokens, prefix, self.max_length)]

    @abstractmethod
    def generate(self, asked: Sequence[Prompt]) -> list[Written]:
        """The text of each prompt, cut before its first stop text; greedy equal ones once.

        An engine may take a greedy text for the beginning of another one of the same prompt.

        Raises:
            TrialTimeoutError: the deadline is over.
        """

    @abstractmethod
    def next_token_log_probabilities(self, asked: Sequence[Sequence[int]]) -> torch.Tensor:
        """Log-probability of each token after each prompt, float32, (prompts, vocabulary)."""

    def log_probabilities_along(
        self, rows: Sequence[PlacedRow]
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """What follows at every place of some rows, in any order; large, so use it at once.

        Args:
            rows: Tokens, at most as many as the model reads, and how many of them stand before
                the first place.

        Yields:
            Index of a row, and its log-probabilities in float32, (places, vocabulary); the last
            place is behind all of its tokens.

        Raises:
            TrialTimeoutError: the deadline is over.
        """
        for index, (tokens, first) in enumerate(rows):
            beginnings = [tokens[:n] for n in range(first, len(tokens) + 1)]
            yield index, self.next_token_log_probabilities(beginnings)

    @property
    def eot_token_id(self) -> int | None:
        """End-of-text token, None where the tokenizer has none."""
        return _as_id(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int | None:
        """What an empty context is replaced by: BOS, else EOS."""
        bos = _as_id(self.tokenizer.bos_token_id)
        return self.eot_token_id if bos is None else bos

    def _cut(
        self, texts: Sequence[Sequence[int]]
    ) -> tuple[list[list[Continuation]], list[Continuation]]:
        """The windows of each text, and all of them in one list."""
        cut = list(map(self.windows, texts))
        return cut, [window for own in cut for window in own]


def context_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that a model reads at most: of its configuration, else of its tokenizer."""
    own = getattr(config, "text_config", None) or config
    for name in LENGTHS:
        if getattr(own, name, None) is not None:
            return int(getattr(own, name))
    longest = getattr(tokenizer, "model_max_length", None)
    return DEFAULT_CONTEXT if longest is None or longest >= _ENDLESS else int(longest)


def _as_id(value: Any) -> int | None:
    return value if isinstance(value, int) else None

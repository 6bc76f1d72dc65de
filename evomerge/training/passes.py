"""Texts as forward passes whose logits are kept only where they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from evomerge.foundations.errors import RunError
from evomerge.inference.shortage import is_shortage


@dataclass(frozen=True)
class Text:
    """Tokens a model reads, and from where on it is to know them.

    Attributes:
        tokens: At least two.
        first: The first one that is predicted, >= 1.
        share: What the text counts beside others.
    """

    tokens: tuple[int, ...]
    first: int = 1
    share: float = 1.0

    @property
    def n_read(self) -> int:
        """Tokens predicted."""
        return len(self.tokens) - self.first

    @property
    def texts(self) -> tuple[Text, ...]:
        """What is read of it: itself."""
        return (self,)


@dataclass(frozen=True)
class OptionTexts:
    """Texts that are compared by their likelihoods, as lm-eval compares options.

    Attributes:
        options: At least two.
        right: Which of them are right, at least one.
        lengths: What the log-likelihood of each is divided by.
        against: What it takes the log-likelihood of away, one per option; empty: nothing.
        share: What the choice counts beside others.
    """

    options: tuple[Text, ...]
    right: tuple[int, ...]
    lengths: tuple[float, ...]
    against: tuple[Text, ...] = ()
    share: float = 1.0

    @property
    def texts(self) -> tuple[Text, ...]:
        """What is read of it."""
        return (*self.options, *self.against)


@dataclass(frozen=True)
class TaughtTokens:
    """A text behind every token of which a teacher says what comes next.

    Attributes:
        text: With a last token that nobody reads: its place is behind all others.
        logits: The teacher's best, shape (places, k).
        tokens: Which they are of, same shape.
        temperature: What the logits of both are divided by.
        share: What it counts beside others.
    """

    text: Text
    logits: torch.Tensor
    tokens: torch.Tensor
    temperature: float
    share: float = 1.0

    @classmethod
    def of(
        cls,
        tokens: Sequence[int],
        said: tuple[torch.Tensor, torch.Tensor],
        temperature: float,
        share: float,
    ) -> TaughtTokens:
        """A text, of which a teacher says something behind each token."""
        return cls(Text((*tokens, tokens[-1])), *said, temperature, share)

    @property
    def texts(self) -> tuple[Text, ...]:
        """What is read of it."""
        return (self.text,)


Exercise = Text | OptionTexts | TaughtTokens  # what one document teaches


@dataclass(frozen=True)
class Pass:
    """Texts as one batch, padded on the right, which a causal model never looks at.

    Attributes:
        tokens: What is read, shape (texts, width).
        places: Row and column of each token whose logits are read, shape (2, places).
        wanted: The tokens that come next there, shape (places,).
    """

    tokens: torch.Tensor
    places: torch.Tensor
    wanted: torch.Tensor

    @classmethod
    def of(cls, texts: Sequence[Text], device: torch.device) -> Pass:
        """One pass over some texts."""
        width = max(len(text.tokens) for text in texts) - 1
        tokens = [[*text.tokens[:-1], *[0] * (width + 1 - len(text.tokens))] for text in texts]
        places = [
            (row, column - 1)
            for row, text in enumerate(texts)
            for column in range(text.first, len(text.tokens))
        ]
        return cls(
            torch.tensor(tokens, device=device),
            torch.tensor(places, device=device).T,
            torch.tensor([t for text in texts for t in text.tokens[text.first :]], device=device),
        )

    @property
    def n_tokens(self) -> int:
        """Tokens of the batch, with padding."""
        return self.tokens.numel()

    def logits(self, module: PreTrainedModel) -> torch.Tensor:
        """At the places, shape (places, vocabulary); differentiable where grad is enabled."""
        rows, columns = self.places

        def pick(_: torch.nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            return (given[0][rows, columns][None],)

        head = module.get_output_embeddings()  # type: ignore[no-untyped-call]  # theirs
        hook = head.register_forward_pre_hook(pick)
        try:
            found: torch.Tensor = module(input_ids=self.tokens, use_cache=False).logits[0]
        finally:
            hook.remove()
        return found


@contextmanager
def fitting() -> Iterator[None]:
    """Says what to do where a pass does not fit the memory.

    Raises:
        RunError: it did not.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        raise RunError(
            f"out of memory while training ({' '.join(str(error).split())})",
            where="optimizer.batch_size",
            fix="Lower it, and raise accumulation as much; or lower max_length.",
        ) from error

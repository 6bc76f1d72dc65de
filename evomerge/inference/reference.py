"""Row by row with transformers' own forward pass and ``generate``: slow, and nothing is shared.

For whoever wants to exclude the fast engine's ways (shared tokens, padded rows, slots, passes
planned once): every request is a pass, or a generation, of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from evomerge.foundations.deadline import Deadline
from evomerge.inference.base import (
    Continuation,
    Engine,
    LogLikelihood,
    PlacedRow,
    Prompt,
    Written,
)
from evomerge.inference.texts import drawn_by, ends_of, text_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ReferenceEngine(Engine):
    """See :class:`Engine`; batch size and exactness change nothing."""

    @classmethod
    def tokens_per_pass(
        cls, device: str, batch_size: int | Literal["auto"] = "auto", longest: int = 0
    ) -> int:
        """See :meth:`Engine.tokens_per_pass`: one row."""
        return longest

    def log_likelihoods(
        self, asked: Sequence[Continuation], kind: str = "continuations"
    ) -> list[LogLikelihood]:
        """See :meth:`Engine.log_likelihoods`."""
        return [self._log_likelihood(*one) for one in asked]

    def _log_likelihood(self, context: list[int], tokens: list[int]) -> LogLikelihood:
        logits = self._logits((context + tokens[:-1])[-self.max_length :])[-len(tokens) :]
        wanted = torch.tensor(tokens, device=logits.device)
        found = torch.log_softmax(logits, dim=-1).gather(1, wanted[:, None])
        return float(found.double().sum()), bool((logits.argmax(dim=-1) == wanted).all())

    @torch.no_grad()
    def _logits(self, row: Sequence[int]) -> torch.Tensor:
        """What follows each token of a row, float32, shape (tokens, vocabulary)."""
        self.deadline.check()
        inputs = torch.tensor([list(row)], device=self.module.device)
        logits: torch.Tensor = self.module(input_ids=inputs, use_cache=False).logits
        return logits[0].float()

    def next_token_log_probabilities(self, asked: Sequence[Sequence[int]]) -> torch.Tensor:
        """See :meth:`Engine.next_token_log_probabilities`."""
        last = [self._logits(tokens[-self.max_length :])[-1] for tokens in asked]
        return torch.log_softmax(torch.stack(last), dim=-1)

    def log_probabilities_along(
        self, rows: Sequence[PlacedRow]
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """See :meth:`Engine.log_probabilities_along`."""
        for index, (tokens, first) in enumerate(rows):
            yield index, torch.log_softmax(self._logits(tokens)[first - 1 :], dim=-1)

    def generate(self, asked: Sequence[Prompt]) -> list[Written]:
        """See :meth:`Engine.generate`."""
        greedy: dict[tuple[tuple[int, ...], str], Written] = {}
        written = []
        for prompt in asked:
            key = prompt.tokens, prompt.generation.key
            if prompt.generation.is_sampled or key not in greedy:
                greedy[key] = self._written(prompt)
            written.append(greedy[key])
        return written

    @torch.no_grad()
    def _written(self, prompt: Prompt) -> Written:
        tokens, generation = prompt
        self.deadline.check()
        inputs = torch.tensor([list(tokens)], device=self.module.device)
        others = {"max_length": len(tokens) + generation.max_tokens, **generation.sampling}
        with drawn_by(generation.seed):
            output = self.module.generate(  # type: ignore[operator]  # a mixin mypy cannot see
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                stopping_criteria=StoppingCriteriaList(
                    [_Stopped(self.tokenizer, generation.stops, len(tokens), self.deadline)]
                ),
                pad_token_id=self.eot_token_id or 0,
                **others,
            )
        new = output[0, len(tokens) :].tolist()
        return text_of(new, generation, self.tokenizer, ends_of(self.module, generation))


class _Stopped(StoppingCriteria):
    """Ends a generation once a stop text stands in it; of several beams in the best of them."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[str],
        prompt_width: int,
        deadline: Deadline,
    ) -> None:
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._prompt_width, self._deadline = prompt_width, deadline

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        self._deadline.check()
        text = self._tokenizer.decode(input_ids[0, self._prompt_width :]) if self._stops else ""
        is_done = any(stop in text for stop in self._stops)
        return torch.full((len(input_ids),), is_done, device=input_ids.device)

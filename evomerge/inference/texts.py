"""What generated tokens say: the same for every engine, however it came by them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from evomerge.inference.base import CutText, GenerationRequest, Written

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def ends_of(module: PreTrainedModel, generation: GenerationRequest) -> set[int | None]:
    """Tokens after which transformers generates no more: the request's own, else the model's."""
    eos = generation.sampling.get("eos_token_id")
    if eos is None:
        eos = getattr(module.generation_config, "eos_token_id", None)
    return set(eos if isinstance(eos, list) else [eos])


def text_of(
    tokens: Sequence[int],
    generation: GenerationRequest,
    tokenizer: PreTrainedTokenizerBase,
    ends: set[int | None],
) -> Written:
    """The text of new tokens: up to the end of text, and before its first stop text.

    Args:
        tokens: What was generated, with what ended it.
        generation: How.
        tokenizer: Of the model.
        ends: See :func:`ends_of`; the tokenizer's own end of text is one too.
    """
    eot = tokenizer.eos_token_id
    is_full = len(tokens) >= generation.max_tokens and not {eot, *ends} & {*tokens}
    kept = tokens[: tokens.index(eot)] if eot in tokens else tokens
    text = str(tokenizer.decode(list(kept), skip_special_tokens=True))
    is_cut = is_full and not any(stop in text for stop in generation.stops)
    for stop in generation.stops:
        text = text.partition(stop)[0]
    return CutText(text, tokens) if is_cut else Written(text, tokens)


@contextmanager
def drawn_by(seed: int | None) -> Iterator[None]:
    """Draws what is drawn inside from a stream of its own, and leaves torch's where it was."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield

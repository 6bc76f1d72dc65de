"""Batched generation for lm-eval's ``generate_until`` requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from evomerge.deadline import Deadline
from evomerge.errors import GenomeError

if TYPE_CHECKING:
    from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel, Row

DEFAULT_MAX_GEN_TOKS = 256  # lm-eval's, where the task gives none
# A generated token costs a row one position, not a whole row: more rows fit than in scoring.
GENERATION_BUDGET = 4


class StopAtText(StoppingCriteria):
    """Ends each row at its own first stop text.

    Args:
        tokenizer: Decodes the tail of a row.
        stops: Stop texts, none empty.
        prompt_width: Columns of prompt and padding, never searched.
        endings: Token id -> whether it can end a stop text; filled as tokens come up, to be
            shared by all batches with these stops.
        deadline: By when the trial has to be done.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[str],
        prompt_width: int,
        endings: dict[int, bool],
        deadline: Deadline,
    ) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._last_letters = {stop[-1] for stop in stops}
        self._prompt_width = prompt_width
        self._endings = endings
        self._deadline = deadline
        # Two more tokens than the text needs: it may come out in other pieces.
        encoded = [tokenizer.encode(stop, add_special_tokens=False) for stop in stops]
        self._tail = max(map(len, encoded), default=0) + 2
        self._is_done: torch.Tensor | None = None

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Which rows are done, shape (rows,); the deadline is looked at with every token."""
        self._deadline.check()
        if self._is_done is None:
            self._is_done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        open_rows = (~self._is_done).nonzero().flatten().tolist()
        newest = input_ids[:, -1].tolist()
        ended = [row for row in open_rows if self._may_end(newest[row])]
        if ended:
            tails = input_ids[ended, self._prompt_width :][:, -self._tail :]
            texts = self._tokenizer.batch_decode(tails)
            found = [any(stop in text for stop in self._stops) for text in texts]
            self._is_done[ended] = torch.tensor(found, device=input_ids.device)
        return self._is_done

    def _may_end(self, token: int) -> bool:
        """Whether a stop text can end in this token; decoding every tail costs too much.

        True also where the token's own text may not be what it adds: parts of a letter, and
        blanks that a tokenizer drops at the beginning.
        """
        if token not in self._endings:
            text = self._tokenizer.decode([token])
            self._endings[token] = (
                "\ufffd" in text
                or " " in self._last_letters
                or any(letter in text for letter in self._last_letters)
            )
        return self._endings[token]


def generate(model: LiveLanguageModel, requests: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Generated text of each ``(context, settings)``, cut before its first stop text.

    Greedy requests that are equal are answered once.

    Raises:
        GenomeError: the generation settings leave no room for a prompt.
    """
    groups: dict[str, list[int]] = {}
    for position, (_, given) in enumerate(requests):
        groups.setdefault(json.dumps(given, sort_keys=True, default=str), []).append(position)
    texts = [""] * len(requests)
    for positions in groups.values():
        settings = GenerationSettings(model, requests[positions[0]][1])
        rows = [_prompt(model, requests[position][0], settings.room) for position in positions]
        askers: dict[tuple[Row, int], list[int]] = {}
        for position, row in zip(positions, rows, strict=True):
            # Sampled texts differ: each asker gets its own.
            askers.setdefault((row, position if settings.is_sampled else -1), []).append(position)
        order = sorted(askers, key=lambda key: (-len(key[0]), key))
        answers = _generate_rows(model, [row for row, _ in order], settings)
        for key, text in zip(order, answers, strict=True):
            for position in askers[key]:
                texts[position] = text
    return texts


class GenerationSettings:
    """One request's generation settings, by lm-eval's rules.

    Attributes:
        stops: Texts that end a generation; EOS among them.
        max_tokens: Tokens generated at most.
        room: Tokens left for the prompt.
        is_sampled: Whether texts are drawn rather than greedy.
        others: What goes to transformers' ``generate`` as it is.
    """

    def __init__(self, model: LiveLanguageModel, given: Mapping[str, Any]) -> None:
        others: dict[str, Any] = dict(normalize_gen_kwargs(dict(given), DEFAULT_MAX_GEN_TOKS))
        eot = model.eot_token_id
        eos = None if eot is None else model.tokenizer.decode(eot, skip_special_tokens=False)
        stops = handle_stop_sequences(others.pop("until", None), eos=eos)
        self.stops = [stop for stop in stops if stop]
        self.max_tokens = int(others.pop("max_gen_toks"))
        self.room = model.max_length - self.max_tokens
        if self.room <= 0:
            raise GenomeError(
                f"max_gen_toks {self.max_tokens} leaves no room for a prompt, the model reads "
                f"{model.max_length} tokens",
                where="evaluation.gen_kwargs",
                fix=f"Set max_gen_toks below {model.max_length}.",
            )
        self.is_sampled = bool(others.get("do_sample"))
        if not self.is_sampled:
            others.pop("temperature", None)
        self.others = others


def _prompt(model: LiveLanguageModel, context: str, room: int) -> Row:
    has_bos = has_bos_prefix(context, getattr(model.tokenizer, "bos_token", None))
    ids = model.tok_encode(context, add_special_tokens=not has_bos)
    if not ids and model.prefix_token_id is not None:
        ids = [model.prefix_token_id]  # nothing can be generated from nothing
    return tuple(ids[-room:])


@torch.no_grad()
def _generate_rows(
    model: LiveLanguageModel, rows: Sequence[Row], settings: GenerationSettings
) -> list[str]:
    device, tokenizer = model.module.device, model.tokenizer
    pad = next(
        (i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if isinstance(i, int)), 0
    )
    texts: list[str] = []
    endings: dict[int, bool] = {}
    for batch in model.batches(rows, settings.max_tokens, GENERATION_BUDGET):
        width = max(map(len, batch))
        # Padding on the left, masked: transformers derives positions from the mask.
        inputs = torch.tensor([[*[pad] * (width - len(row)), *row] for row in batch])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
        stop = StopAtText(tokenizer, settings.stops, width, endings, model.deadline)
        others = {"max_length": width + settings.max_tokens, **settings.others}
        output = model.module.generate(  # type: ignore[operator]  # a mixin mypy cannot see
            input_ids=inputs.to(device),
            attention_mask=mask.to(device),
            stopping_criteria=StoppingCriteriaList([stop]),
            pad_token_id=pad,
            use_cache=True,
            **others,
        )
        texts += [_text(model, tokens, settings.stops) for tokens in output[:, width:].tolist()]
    return texts


def _text(model: LiveLanguageModel, tokens: list[int], stops: Sequence[str]) -> str:
    eot = model.eot_token_id
    if eot in tokens:
        tokens = tokens[: tokens.index(eot)]
    text = model.tokenizer.decode(tokens, skip_special_tokens=True)
    return str(postprocess_generated_text(text, list(stops), None))

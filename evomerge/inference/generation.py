"""Batched generation for lm-eval's ``generate_until`` requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.models.utils_hf import stop_sequences_criteria
from transformers import StoppingCriteriaList
from typing_extensions import Self

from evomerge.foundations.errors import GenomeError
from evomerge.inference.greedy import GreedyDecoder, Room
from evomerge.inference.stops import StopAtText, StopTexts
from evomerge.inference.tree_passes import read_stem
from evomerge.inference.trees import cut

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

    from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
    from evomerge.inference.trees import Row

DEFAULT_MAX_GEN_TOKS = 256  # lm-eval's, where the task gives none
# A generated token costs a row one position, not a whole row: more rows fit than in scoring.
GENERATION_BUDGET = 4

# Settings that greedy decoding does not heed, or that it heeds by itself.
WITHOUT_SAY = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "use_cache"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("output_attentions", "output_hidden_states", "cache_implementation"),
    *("_from_model_config", "transformers_version"),
}


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


class CutText(Written):
    """One that its length limit ended, and neither a stop text nor EOS."""

    __slots__ = ()


@dataclass(frozen=True)
class TextRequests:
    """Requests with the same settings; they depend on no weights.

    Attributes:
        settings: Of all of them.
        stops: Finds their stop texts.
        rows: What is read, by falling length.
        askers: Positions of the requests that each row answers.
    """

    settings: GenerationSettings
    stops: StopTexts
    rows: list[Row]
    askers: list[list[int]]

    @cached_property
    def stems(self) -> list[tuple[Row, list[Row]]]:
        """Every stem and the rows that continue it, by falling length."""
        return [
            (stem, sorted(chain.from_iterable(groups), key=lambda row: (-len(row), row)))
            for stem, groups in cut(dict.fromkeys(self.rows, 1)).items()
        ]


def group(
    model: LiveLanguageModel, requests: Sequence[tuple[str, dict[str, Any]]]
) -> list[TextRequests]:
    """Groups ``(context, settings)`` requests; greedy ones that are equal are answered once.

    Raises:
        GenomeError: the generation settings leave no room for a prompt, or for an answer.
    """
    by_settings: dict[str, list[int]] = {}
    for position, (_, given) in enumerate(requests):
        by_settings.setdefault(json.dumps(given, sort_keys=True, default=str), []).append(position)
    groups = []
    for kind, positions in by_settings.items():
        settings = GenerationSettings(model, requests[positions[0]][1], kind)
        askers: dict[tuple[Row, int], list[int]] = {}
        for position in positions:
            row = prompt_of(model, requests[position][0], settings.room)
            # Sampled texts differ: each asker gets its own.
            askers.setdefault((row, position if settings.is_sampled else -1), []).append(position)
        order = sorted(askers, key=lambda key: (-len(key[0]), key))
        stops = StopTexts(model.tokenizer, settings.stops)
        rows = [row for row, _ in order]
        groups.append(TextRequests(settings, stops, rows, [askers[key] for key in order]))
    return groups


def generate(model: LiveLanguageModel, groups: Sequence[TextRequests]) -> list[str]:
    """Generated text of each request, cut before its first stop text; each is :class:`Written`."""
    texts: dict[int, Written] = {}
    for asked in groups:
        if model.shares and asked.settings.is_plain(model.module):
            decoded = _decode_greedily(model, asked)
        else:
            decoded = _generate_with_transformers(model, asked)
        for positions, tokens in zip(asked.askers, decoded, strict=True):
            texts |= dict.fromkeys(positions, _text(model, tokens, asked.settings))
    return [texts[position] for position in range(len(texts))]


class GenerationSettings:
    """One request's generation settings, by lm-eval's rules.

    Attributes:
        kind: What sets these requests apart from others.
        stops: Texts that end a generation; EOS among them.
        max_tokens: Tokens generated at most.
        room: Tokens left for the prompt.
        is_sampled: Whether texts are drawn rather than greedy.
        n_beams: Texts followed at once; 1 but for a beam search.
        is_read_alone: Whether padding would have a say, so that each row is a batch of its own.
        others: What goes to transformers' ``generate`` as it is.
    """

    def __init__(self, model: LiveLanguageModel, given: Mapping[str, Any], kind: str) -> None:
        self.kind = kind
        others: dict[str, Any] = dict(normalize_gen_kwargs(dict(given), DEFAULT_MAX_GEN_TOKS))
        eot = model.eot_token_id
        eos = None if eot is None else model.tokenizer.decode(eot, skip_special_tokens=False)
        stops = handle_stop_sequences(others.pop("until", None), eos=eos)
        self.stops = [stop for stop in stops if stop]
        self.max_tokens = int(others.pop("max_gen_toks"))
        self.room = model.max_length - self.max_tokens
        if self.max_tokens < 1:
            raise GenomeError(
                f"max_gen_toks {self.max_tokens} leaves no room for an answer",
                where="evaluation.gen_kwargs",
                fix="Set max_gen_toks to 1 or more.",
            )
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
        self.n_beams = int(others.get("num_beams") or 1)
        self.is_read_alone = self.n_beams > 1 or "max_length" in others
        self.others = others

    def is_plain(self, module: PreTrainedModel) -> bool:
        """Whether the most likely token always comes next, and nothing else has a say."""
        if self.is_sampled:
            return False
        config = module.generation_config
        given = set() if config is None else {*config.to_diff_dict()} - {"max_length"}
        return set(self.others) | given <= WITHOUT_SAY


def prompt_of(model: LiveLanguageModel, context: str, room: int) -> Row:
    """The tokens a text is generated after: as many of the last as there is room for."""
    has_bos = has_bos_prefix(context, getattr(model.tokenizer, "bos_token", None))
    ids = model.tok_encode(context, add_special_tokens=not has_bos)
    if not ids and model.prefix_token_id is not None:
        ids = [model.prefix_token_id]  # nothing can be generated from nothing
    return tuple(ids[-room:])


@torch.no_grad()
def _decode_greedily(model: LiveLanguageModel, asked: TextRequests) -> list[list[int]]:
    """New tokens of each row."""
    rows, settings = asked.rows, asked.settings
    ends = _ends(model)

    def are_done(new: list[list[int]]) -> list[bool]:
        return [
            is_stopped or tokens[-1] in ends
            for is_stopped, tokens in zip(asked.stops.are_in(new), new, strict=True)
        ]

    def decoder_of(members: Sequence[Row], stem: Cache | None) -> GreedyDecoder:
        longest = len(rows[0]) + settings.max_tokens
        room = Room(
            len(_batches(model, members, settings)[0]),
            model.budgets.of(settings.kind, longest).tokens,
            model.slots,
        )
        return GreedyDecoder(model.module, members, stem, settings.max_tokens, room)

    def fill() -> None:
        """A token in every slot with the longest prompts, and one more of all at once."""
        longest = _batches(model, rows, settings)[0]
        decoder = decoder_of(longest, None)
        decoder.decode(lambda new: [len(tokens) > 1 for tokens in new], model.deadline.check)

    model.budgets.find(settings.kind, len(rows[0]) + settings.max_tokens, fill)
    decoded: dict[Row, list[int]] = {}
    for stem, members in asked.stems:
        model.deadline.check()
        kept = read_stem(model.module, stem)
        decoder = decoder_of(members, kept)
        decoder.decode(are_done, model.deadline.check)
        decoded |= zip(members, decoder.new, strict=True)
    return [decoded[row] for row in rows]


def _batches(
    model: LiveLanguageModel, rows: Sequence[Row], settings: GenerationSettings
) -> list[list[Row]]:
    """As many rows at once as the longest of them allow."""
    longest = len(rows[0]) + settings.max_tokens
    budget = model.budgets.of(settings.kind, longest, GENERATION_BUDGET)
    return list(budget.split(rows, settings.max_tokens))


@torch.no_grad()
def _generate_with_transformers(model: LiveLanguageModel, asked: TextRequests) -> list[list[int]]:
    """The same by transformers' own loop, for all settings it knows."""
    settings = asked.settings
    device, tokenizer = model.module.device, model.tokenizer
    pad = next(
        (i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if isinstance(i, int)), 0
    )
    decoded: list[list[int]] = []
    alone = [[row] for row in asked.rows]
    for batch in alone if settings.is_read_alone else _batches(model, asked.rows, settings):
        model.deadline.check()
        width = max(map(len, batch))
        # Padding on the left, masked: transformers derives positions from the mask.
        inputs = torch.tensor([[*[pad] * (width - len(row)), *row] for row in batch])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
        stop = StoppingCriteriaList([StopAtText(asked.stops, width, model.deadline)])
        if settings.n_beams > 1:  # a row of the pass is no text; lm-eval looks at the best alone
            stop = stop_sequences_criteria(tokenizer, settings.stops, width, 1)
        others = {"max_length": width + settings.max_tokens, **settings.others}
        output = model.module.generate(  # type: ignore[operator]  # a mixin mypy cannot see
            input_ids=inputs.to(device),
            attention_mask=mask.to(device),
            stopping_criteria=stop,
            pad_token_id=pad,
            use_cache=True,
            **others,
        )
        ends = {model.eot_token_id, *_ends(model)}
        new = output[:, width:].tolist()
        decoded += [_up_to_stop(tokens, ends, asked.stops) for tokens in new]
    return decoded


def _ends(model: LiveLanguageModel) -> set[int | None]:
    """Tokens after which transformers generates no more."""
    eos = getattr(model.module.generation_config, "eos_token_id", None)
    return set(eos if isinstance(eos, list) else [eos])


def _text(model: LiveLanguageModel, tokens: list[int], settings: GenerationSettings) -> Written:
    eot, whole = model.eot_token_id, tokens
    is_full = len(tokens) >= settings.max_tokens and not {eot, *_ends(model)} & {*tokens}
    if eot in tokens:
        tokens = tokens[: tokens.index(eot)]
    text = model.tokenizer.decode(tokens, skip_special_tokens=True)
    is_cut = is_full and not any(stop in text for stop in settings.stops)
    kept = str(postprocess_generated_text(text, list(settings.stops), None))
    return CutText(kept, whole) if is_cut else Written(kept, whole)


def _up_to_stop(tokens: list[int], ends: set[int | None], stops: StopTexts) -> list[int]:
    """Without the padding behind them: a row that is done waits for the others of its batch."""
    for n in range(1, len(tokens)):
        if tokens[n - 1] in ends or stops.are_in([tokens[:n]])[0]:
            return tokens[:n]
    return tokens

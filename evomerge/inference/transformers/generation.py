"""Batched generation: greedy texts in slots of their own, all others by transformers' own loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from evomerge.foundations.deadline import Deadline
from evomerge.inference.base import GenerationRequest, Prompt, Written
from evomerge.inference.texts import drawn_by, ends_of, text_of
from evomerge.inference.transformers.greedy import DecodingLimits, GreedyDecoder, SlotMemory
from evomerge.inference.transformers.pass_budget import PassBudgets
from evomerge.inference.transformers.stops import StopAtText, StopBeams, StopTexts
from evomerge.inference.transformers.tree_passes import read_stem
from evomerge.inference.transformers.trees import Row, cut

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

# A generated token costs a row one position, not a whole row: more rows fit than in scoring.
GENERATION_BUDGET = 4

_EOS = "eos_token_id"
# Settings that greedy decoding does not heed, or that it heeds by itself.
WITHOUT_SAY = {
    *("bos_token_id", _EOS, "pad_token_id", "use_cache"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("output_attentions", "output_hidden_states", "cache_implementation"),
    *("_from_model_config", "transformers_version"),
}


@dataclass(frozen=True)
class TextRequests:
    """Requests with the same settings; they depend on no weights.

    Attributes:
        settings: Of all of them.
        stops: Finds their stop texts.
        rows: What is read, by falling length.
        askers: Positions of the requests that each row answers.
        sooner: Those of them that ask for a beginning of the text alone -> how it ends.
    """

    settings: GenerationRequest
    stops: StopTexts
    rows: list[Row]
    askers: list[list[int]]
    sooner: Mapping[int, tuple[GenerationRequest, StopTexts]]

    @cached_property
    def stems(self) -> list[tuple[Row, list[Row]]]:
        """Every stem and the rows that continue it, by falling length."""
        return [
            (stem, sorted(chain.from_iterable(groups), key=lambda row: (-len(row), row)))
            for stem, groups in cut(dict.fromkeys(self.rows, 1)).items()
        ]


def group(
    tokenizer: PreTrainedTokenizerBase, asked: Sequence[Prompt], *, plain: bool
) -> list[TextRequests]:
    """Prompts that are continued in the same way; greedy ones that are equal are answered once.

    A greedy text that is the beginning of another one is that one's, cut.

    Args:
        tokenizer: Of the model.
        asked: The prompts.
        plain: See :func:`is_plain`: elsewhere no text is the beginning of another one.
    """
    written = _longest_texts(asked) if plain else [one.generation for one in asked]
    alike: dict[str, list[int]] = {}
    for position, settings in enumerate(written):
        alike.setdefault(settings.key, []).append(position)
    stops_of = {
        one.generation.key: StopTexts(tokenizer, one.generation.stops)
        for one, settings in zip(asked, written, strict=True)
        if one.generation.key != settings.key
    }
    groups = []
    for positions in alike.values():
        settings = written[positions[0]]
        askers: dict[tuple[Row, int], list[int]] = {}
        for position in positions:
            # Sampled texts differ: each asker gets its own.
            own = position if settings.is_sampled else -1
            askers.setdefault((asked[position].tokens, own), []).append(position)
        order = sorted(askers, key=lambda key: (-len(key[0]), key))
        stops = StopTexts(tokenizer, settings.stops)
        rows = [row for row, _ in order]
        sooner = {
            position: (shorter, stops_of[shorter.key])
            for position in positions
            if (shorter := asked[position].generation).key != settings.key
        }
        groups.append(TextRequests(settings, stops, rows, [askers[key] for key in order], sooner))
    return groups


def is_plain(module: PreTrainedModel) -> bool:
    """Whether a model's own generation settings leave greedy tokens to its likelihoods alone."""
    config = module.generation_config
    given = set() if config is None else {*config.to_diff_dict()} - {"max_length"}
    return given <= WITHOUT_SAY


def _longest_texts(asked: Sequence[Prompt]) -> list[GenerationRequest]:
    """Of each prompt the settings, among all that it is asked with, by which its text is written.

    Greedy tokens are the same whatever ends them: fewer stop texts and a later limit write all
    that the others do, up to the same end tokens.
    """
    several: dict[Row, dict[str, GenerationRequest]] = {}
    for tokens, settings in asked:
        if _is_likeliest(settings):
            several.setdefault(tokens, {})[settings.key] = settings
    found = []
    for tokens, settings in asked:
        for other in several.get(tokens, {}).values() if _is_likeliest(settings) else ():
            is_as_long = other.max_tokens >= settings.max_tokens
            ends_alike = other.sampling.get(_EOS) == settings.sampling.get(_EOS)
            if is_as_long and ends_alike and set(other.stops) <= set(settings.stops):
                settings = other
        found.append(settings)
    return found


def _is_likeliest(settings: GenerationRequest) -> bool:
    """Whether nothing but the model has a say in what comes next."""
    return not settings.is_sampled and settings.sampling.keys() <= WITHOUT_SAY


@dataclass(frozen=True)
class Writer:
    """Writes texts with one model.

    Attributes:
        module: The model.
        tokenizer: Its own.
        deadline: Looked at with every pass.
        budgets: How much one forward pass reads.
        slots: Where rows keep what they have read.
        shares: Whether the model may compute shared tokens once.
        eot: End-of-text token; None where there is none.
    """

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    deadline: Deadline
    budgets: PassBudgets
    slots: SlotMemory
    shares: bool
    eot: int | None

    def write(self, groups: Sequence[TextRequests]) -> list[Written]:
        """The text of each prompt, cut before its first stop text."""
        texts: dict[int, Written] = {}
        for asked in groups:
            ends = ends_of(self.module, asked.settings)
            if self.shares and self._is_plain(asked.settings):
                decoded = self._decode_greedily(asked)
            else:
                decoded = self._generate_with_transformers(asked)
            for positions, tokens in zip(asked.askers, decoded, strict=True):
                text = text_of(tokens, asked.settings, self.tokenizer, ends)
                texts |= dict.fromkeys(positions, text)
                for position in asked.sooner.keys() & {*positions}:
                    settings, stops = asked.sooner[position]
                    own = _up_to_stop(tokens[: settings.max_tokens], {self.eot, *ends}, stops)
                    texts[position] = text_of(own, settings, self.tokenizer, ends)
        return [texts[position] for position in range(len(texts))]

    def _is_plain(self, settings: GenerationRequest) -> bool:
        """Whether the most likely token always comes next, and nothing else has a say."""
        return _is_likeliest(settings) and is_plain(self.module)

    @torch.no_grad()
    def _decode_greedily(self, asked: TextRequests) -> list[list[int]]:
        """New tokens of each row."""
        rows, settings = asked.rows, asked.settings
        ends = ends_of(self.module, settings)

        def are_done(new: list[list[int]]) -> list[bool]:
            return [
                is_stopped or tokens[-1] in ends
                for is_stopped, tokens in zip(asked.stops.are_in(new), new, strict=True)
            ]

        def decoder_of(members: Sequence[Row], stem: Cache | None) -> GreedyDecoder:
            longest = len(rows[0]) + settings.max_tokens
            limits = DecodingLimits(
                len(self._batches(members, settings)[0]),
                self.budgets.of(settings.key, longest).tokens,
                self.slots,
            )
            return GreedyDecoder(self.module, members, stem, settings.max_tokens, limits)

        def fill() -> None:
            """A token in every slot with the longest prompts, and one more of all at once."""
            longest = self._batches(rows, settings)[0]
            decoder = decoder_of(longest, None)
            decoder.decode(lambda new: [len(tokens) > 1 for tokens in new], self.deadline.check)

        self.budgets.find(settings.key, len(rows[0]) + settings.max_tokens, fill)
        decoded: dict[Row, list[int]] = {}
        for stem, members in asked.stems:
            self.deadline.check()
            kept = read_stem(self.module, stem)
            decoder = decoder_of(members, kept)
            decoder.decode(are_done, self.deadline.check)
            decoded |= zip(members, decoder.new, strict=True)
        return [decoded[row] for row in rows]

    def _batches(self, rows: Sequence[Row], settings: GenerationRequest) -> list[list[Row]]:
        """As many rows at once as the longest of them allow."""
        longest = len(rows[0]) + settings.max_tokens
        budget = self.budgets.of(settings.key, longest, GENERATION_BUDGET)
        return list(budget.split(rows, settings.max_tokens))

    @torch.no_grad()
    def _generate_with_transformers(self, asked: TextRequests) -> list[list[int]]:
        """The same by transformers' own loop, for all settings it knows."""
        settings = asked.settings
        device, tokenizer = self.module.device, self.tokenizer
        pad = next(
            (i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if isinstance(i, int)), 0
        )
        decoded: list[list[int]] = []
        alone = [[row] for row in asked.rows]
        is_alone = _is_read_alone(self.module, settings)
        for batch in alone if is_alone else self._batches(asked.rows, settings):
            self.deadline.check()
            width = max(map(len, batch))
            # Padding on the left, masked: transformers derives positions from the mask.
            inputs = torch.tensor([[*[pad] * (width - len(row)), *row] for row in batch])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
            stop: StoppingCriteria = StopAtText(asked.stops, width, self.deadline)
            if _n_beams(self.module, settings) > 1:  # a row of the pass is no text
                stop = StopBeams(tokenizer, settings.stops, width, self.deadline)
            others = {"max_length": width + settings.max_tokens, **settings.sampling}
            with drawn_by(settings.seed):
                output = self.module.generate(  # type: ignore[operator]  # a mixin mypy cannot see
                    input_ids=inputs.to(device),
                    attention_mask=mask.to(device),
                    stopping_criteria=StoppingCriteriaList([stop]),
                    pad_token_id=pad,
                    use_cache=True,
                    **others,
                )
            ends = {self.eot, *ends_of(self.module, settings)}
            new = output[:, width:].tolist()
            decoded += [_up_to_stop(tokens, ends, asked.stops) for tokens in new]
        return decoded


def _n_beams(module: PreTrainedModel, settings: GenerationRequest) -> int:
    """Texts followed at once: as the request says, else as the model's own settings do."""
    if settings.sampling.get("num_beams"):
        return settings.n_beams
    return int(getattr(module.generation_config, "num_beams", None) or 1)


def _is_read_alone(module: PreTrainedModel, settings: GenerationRequest) -> bool:
    """Whether padding, or another row, would have a say, so that each row is a batch of its own."""
    has_length = "max_length" in settings.sampling
    return _n_beams(module, settings) > 1 or has_length or settings.seed is not None


def _up_to_stop(tokens: list[int], ends: set[int | None], stops: StopTexts) -> list[int]:
    """Without the padding behind them: a row that is done waits for the others of its batch."""
    for n in range(1, len(tokens)):
        if tokens[n - 1] in ends or stops.are_in([tokens[:n]])[0]:
            return tokens[:n]
    return tokens

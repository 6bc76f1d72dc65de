"""Greedy decoding of many prompts: a row that is done makes room for the next prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from evomerge.inference.transformers.sharing import attention_masks
from evomerge.inference.transformers.tree_passes import StemLayer, logits_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from evomerge.inference.transformers.trees import Row

# Which of the open rows are done; given the new tokens of each, not empty.
AreDone = Callable[[list[list[int]]], Sequence[bool]]

# So many free slots, or a quarter of all, are worth a pass over prompts.
WORTH_A_PASS = 16
MOST_PADDING = 1 / 8  # of a pass over more prompts than these
MOST_KEPT = 1 << 28  # bytes of slots kept between decodings


class SlotMemory:
    """Buffers that outlive a decoding: getting pages from the system takes a CPU long.

    Elsewhere the allocator keeps what it is given back.
    """

    def __init__(self) -> None:
        self._kept: dict[object, torch.Tensor] = {}

    def take(self, key: object, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """A buffer with anything in it; who takes it again has no longer the first.

        Args:
            key: Of the buffer.
            shape: Of the buffer.
            like: Has its dtype and device.
        """
        size = prod(shape)
        buffer = self._kept.get(key)
        if buffer is None or buffer.numel() < size or buffer.dtype != like.dtype:
            self._kept.pop(key, None)
            buffer = like.new_empty(size)
            n_bytes = sum(one.nbytes for one in (buffer, *self._kept.values()))
            if like.device.type == "cpu" and n_bytes <= MOST_KEPT:
                self._kept[key] = buffer
        return buffer[:size].view(*shape)


@dataclass
class AttentionWindow:
    """Where a pass writes and what it sees; every layer looks at the same one.

    Attributes:
        slots: Of its rows.
        where: Index of its tokens in these slots: rows and columns.
        before: Columns of each row that were written before, where this is one number.
        end: Columns that the pass sees.
        begins: Whether its rows are new in their slots.
    """

    slots: slice
    where: tuple[slice, slice] | tuple[torch.Tensor, torch.Tensor]
    before: int
    end: int
    begins: bool


class SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # theirs
    """Keys and values of one layer: a slot for each row, a column for each position.

    Args:
        memory: Has room for them.
        index: Of the layer.
        shape: Rows at most, tokens of a row at most; the stem's included.
        stem: The layer's stem, which every row continues; None for none.

    Attributes:
        keys: Shape (slots, columns, heads, width of a head).
        values: Likewise.
        window: Of the next pass.
    """

    keys: torch.Tensor
    values: torch.Tensor
    window: AttentionWindow

    def __init__(
        self, memory: SlotMemory, index: int, shape: tuple[int, int], stem: StemLayer | None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # theirs
        self._memory = memory
        self._index = index
        self._shape = shape
        self._stem = stem

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the tokens of a pass to their columns; what its rows hold by then."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            stem = self._stem
            self.keys = self._buffer("keys", key_states, None if stem is None else stem.keys)
            self.values = self._buffer(
                "values", value_states, None if stem is None else stem.values
            )
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def get_seq_length(self) -> int:
        """Columns written before the next pass."""
        return self.window.before

    def move(self, source: int, target: int) -> None:
        """Copies a row to another slot."""
        for buffer in (self.keys, self.values):
            buffer[target] = buffer[source]

    def _write(self, buffer: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        window = self.window
        rows = buffer[window.slots]
        rows[window.where] = states.transpose(1, 2)
        if window.begins:
            # What no row sees must still be numbers, or attention is none.
            rows[:, window.end :] = 0
        return rows[:, : window.end].transpose(1, 2)

    def _buffer(self, name: str, states: torch.Tensor, stem: torch.Tensor | None) -> torch.Tensor:
        shape = (*self._shape, states.shape[1], states.shape[3])
        buffer = self._memory.take((self._index, name), shape, states)
        if stem is not None:
            buffer[:, : stem.shape[2]] = stem.transpose(1, 2)
        return buffer


@dataclass(frozen=True)
class DecodingLimits:
    """What a decoding may take.

    Attributes:
        n_slots: Rows decoded at once.
        prompt_tokens: Tokens of prompts read in one pass, without their stem; one prompt always is.
        memory: Where slots are.
    """

    n_slots: int
    prompt_tokens: int
    memory: SlotMemory


class GreedyDecoder:
    """Prompts that continue one stem.

    Args:
        module: The model.
        rows: The prompts, each with the stem, longest first.
        stem: The stem's keys and values; None where it is empty.
        max_tokens: New tokens of a row at most.
        limits: What it may take.

    Attributes:
        new: The new tokens of every prompt.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        rows: Sequence[Row],
        stem: Cache | None,
        max_tokens: int,
        limits: DecodingLimits,
    ) -> None:
        self.new: list[list[int]] = [[] for _ in rows]
        self._module = module
        self._rows = rows
        self._max_tokens = max_tokens
        self._n_slots = min(limits.n_slots, len(rows))
        self._prompt_tokens = limits.prompt_tokens
        self._n_stem = 0 if stem is None else stem.get_seq_length()
        n_layers = module.config.get_text_config().num_hidden_layers
        stems: Sequence[Any] = [None] * n_layers if stem is None else stem.layers
        shape = (self._n_slots, len(rows[0]) + max_tokens)
        self._layers = [SlotLayer(limits.memory, i, shape, own) for i, own in enumerate(stems)]
        self._kept = Cache(layers=[*self._layers])
        self._open: list[int] = []  # the prompt in each slot that is in use
        self._n_begun = 0

    @torch.no_grad()
    def decode(self, are_done: AreDone, check: Callable[[], None]) -> None:
        """Continues every row until it is done or full.

        Args:
            are_done: Asked after every token.
            check: Called before every pass.
        """
        worth_a_pass = max(1, min(WORTH_A_PASS, self._n_slots // 4))
        while self._open or self._n_begun < len(self._rows):
            check()
            n_waiting = len(self._rows) - self._n_begun
            n_free = self._n_slots - len(self._open)
            if n_waiting and n_free >= min(n_waiting, worth_a_pass):
                slots = self._begin(min(n_waiting, n_free))
            else:
                slots = self._continue()
            new = [self.new[self._open[slot]] for slot in slots]
            done = are_done(new)
            # From the back, so that the row that moves into a free slot is one that stays.
            for slot, tokens, is_done in reversed(list(zip(slots, new, done, strict=True))):
                if is_done or len(tokens) >= self._max_tokens:
                    self._close(slot)

    def _begin(self, most: int) -> range:
        """Reads the next prompts and their first new tokens; the slots they got."""
        lengths = [len(row) - self._n_stem for row in self._rows[self._n_begun :][:most]]
        width = lengths[0]
        count = min(_evenly(lengths), max(1, self._prompt_tokens // width))
        places = range(self._n_begun, self._n_begun + count)
        slots = range(len(self._open), len(self._open) + count)
        self._n_begun += count
        self._open += places
        prompts = [self._rows[place][self._n_stem :] for place in places]
        # Columns behind a prompt hold padding until a new token takes its place; none is seen, as
        # a causal model never looks ahead.
        padded = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
        end = self._n_stem + width
        where = slice(None), slice(self._n_stem, end)
        window = AttentionWindow(
            slice(slots.start, slots.stop), where, self._n_stem, end, begins=True
        )
        self._read(window, padded, [len(prompt) - 1 for prompt in prompts])
        return slots

    def _continue(self) -> range:
        """One more token of every open row; their slots."""
        newest = torch.tensor([[self.new[place][-1]] for place in self._open])
        last = [len(self._rows[place]) + len(self.new[place]) - 1 for place in self._open]
        slots, end = slice(0, len(last)), max(last) + 1
        if min(last) == max(last):
            window = AttentionWindow(
                slots, (slice(None), slice(end - 1, end)), end - 1, end, begins=False
            )
            self._read(window, newest, [0] * len(last))
        else:
            columns = torch.tensor(last, device=self._module.device)[:, None]
            rows = torch.arange(len(last), device=columns.device)[:, None]
            window = AttentionWindow(slots, (rows, columns), end - 1, end, begins=False)
            distance = columns[:, :, None] - torch.arange(end, device=columns.device)
            masks = attention_masks(self._module, distance >= 0, distance)
            self._read(window, newest, [0] * len(last), position_ids=columns, attention_mask=masks)
        return range(len(last))

    def _read(
        self, window: AttentionWindow, tokens: torch.Tensor, last: Sequence[int], **inputs: Any
    ) -> None:
        """One pass; appends the most likely next token of each row.

        Args:
            window: Of the pass.
            tokens: Shape (rows, width).
            last: Index of the last token of each row.
            inputs: Of the pass beside, where a row's tokens do not all stand in one column.
        """
        for layer in self._layers:
            layer.window = window
        logits = logits_at(
            self._module,
            torch.tensor([range(len(last)), last]),
            input_ids=tokens.to(self._module.device),
            past_key_values=self._kept,
            use_cache=True,
            **inputs,
        )
        open_rows = self._open[window.slots]
        for place, token in zip(open_rows, logits.argmax(dim=-1).tolist(), strict=True):
            self.new[place].append(token)

    def _close(self, slot: int) -> None:
        """Frees a slot; the last row in use takes it."""
        last = self._open.pop()
        if slot < len(self._open):
            self._open[slot] = last
            for layer in self._layers:
                layer.move(len(self._open), slot)


def _evenly(lengths: Sequence[int]) -> int:
    """How many of some prompts, longest first, are read together with little padding."""
    totals = enumerate(accumulate(lengths), start=1)
    most = (1 - MOST_PADDING) * lengths[0]
    return sum(count <= WORTH_A_PASS or total >= count * most for count, total in totals)

"""Greedy decoding of many prompts: a row that is done makes room for the next prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from evomerge.evaluators.lm_eval.sharing import attention_masks
from evomerge.evaluators.lm_eval.tree_passes import StemLayer, logits_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from evomerge.evaluators.lm_eval.trees import Row

# Which of the open rows are done; given the new tokens of each, not empty.
AreDone = Callable[[list[list[int]]], Sequence[bool]]

MOST_PROMPTS = 16  # read in one pass


class SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # theirs
    """Keys and values of one layer: a slot for each row, a column for each position.

    Args:
        n_slots: Rows at most.
        capacity: Tokens of a row at most, the stem's included.
        stem: The layer's stem, which every row continues; None for none.

    Attributes:
        slots: Where the rows of the next pass are.
        columns: Where their tokens belong: a slice for all, or one column for each row.
        end: Columns that the next pass sees.
    """

    keys: torch.Tensor
    values: torch.Tensor
    slots: slice
    columns: slice | torch.Tensor
    end: int

    def __init__(self, n_slots: int, capacity: int, stem: StemLayer | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # theirs
        self._shape = (n_slots, capacity)
        self._stem = stem

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the tokens of a pass to their columns; what its rows hold by then."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            stem = self._stem
            self.keys = self._buffer(key_states, None if stem is None else stem.keys)
            self.values = self._buffer(value_states, None if stem is None else stem.values)
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def get_seq_length(self) -> int:
        """Columns that the next pass sees."""
        return self.end

    def move(self, source: int, target: int) -> None:
        """Copies a row to another slot."""
        for buffer in (self.keys, self.values):
            buffer[target] = buffer[source]

    def _write(self, buffer: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        rows = buffer[self.slots]
        if isinstance(self.columns, slice):
            rows[:, :, self.columns] = states
        else:
            rows[torch.arange(len(rows), device=rows.device), :, self.columns] = states[:, :, 0]
        return rows[:, :, : self.end]

    def _buffer(self, states: torch.Tensor, stem: torch.Tensor | None) -> torch.Tensor:
        n_slots, capacity = self._shape
        # Zeros: what no row sees must still be numbers, or attention is none.
        buffer = states.new_zeros(n_slots, states.shape[1], capacity, states.shape[3])
        if stem is not None:
            buffer[:, :, : stem.shape[2]] = stem
        return buffer


class GreedyDecoder:
    """Prompts that continue one stem.

    Args:
        module: The model.
        rows: The prompts, each with the stem, longest first.
        stem: The stem's keys and values; None where it is empty.
        max_tokens: New tokens of a row at most.
        n_slots: Rows decoded at once.

    Attributes:
        new: The new tokens of every prompt.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        rows: Sequence[Row],
        stem: Cache | None,
        max_tokens: int,
        n_slots: int,
    ) -> None:
        self.new: list[list[int]] = [[] for _ in rows]
        self._module = module
        self._rows = rows
        self._max_tokens = max_tokens
        self._n_slots = min(n_slots, len(rows))
        self._n_stem = 0 if stem is None else stem.get_seq_length()
        n_layers = module.config.num_hidden_layers
        stems: Sequence[Any] = [None] * n_layers if stem is None else stem.layers
        capacity = len(rows[0]) + max_tokens
        self._layers = [SlotLayer(self._n_slots, capacity, layer) for layer in stems]
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
        n_together = max(1, min(MOST_PROMPTS, self._n_slots // 4))
        while self._open or self._n_begun < len(self._rows):
            check()
            n_next = min(n_together, len(self._rows) - self._n_begun)
            if n_next and len(self._open) + n_next <= self._n_slots:
                slots = self._begin(n_next)
            else:
                slots = self._continue()
            new = [self.new[self._open[slot]] for slot in slots]
            done = are_done(new)
            # From the back, so that the row that moves into a free slot is one that stays.
            for slot, tokens, is_done in reversed(list(zip(slots, new, done, strict=True))):
                if is_done or len(tokens) >= self._max_tokens:
                    self._close(slot)

    def _begin(self, count: int) -> range:
        """Reads the next prompts and their first new tokens; the slots they got."""
        first = len(self._open)
        places = range(self._n_begun, self._n_begun + count)
        self._n_begun += count
        self._open += places
        prompts = [self._rows[place][self._n_stem :] for place in places]
        width = max(map(len, prompts))
        end = self._n_stem + width
        padded = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
        # Columns behind a prompt hold padding until a new token takes its place; none is seen.
        positions = torch.arange(self._n_stem, end).expand(count, -1)
        last = [len(prompt) - 1 for prompt in prompts]
        slots = range(first, first + count)
        self._read(slots, padded, positions, last, slice(self._n_stem, end))
        return slots

    def _continue(self) -> range:
        """One more token of every open row; their slots."""
        newest = torch.tensor([[self.new[place][-1]] for place in self._open])
        lengths = [len(self._rows[place]) + len(self.new[place]) for place in self._open]
        positions = torch.tensor(lengths)[:, None] - 1
        slots = range(len(self._open))
        self._read(slots, newest, positions, [0] * len(lengths), None)
        return slots

    def _read(
        self,
        slots: range,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        read: Sequence[int],
        columns: slice | None,
    ) -> None:
        """One pass; appends the most likely next token of each row.

        Args:
            slots: Of the rows.
            tokens: Shape (rows, width).
            positions: Of these tokens, same shape.
            read: The last token of each row, as index into ``tokens``.
            columns: Where the tokens belong; None for each at its position.
        """
        end = int(positions.max()) + 1
        positions = positions.to(self._module.device)
        for layer in self._layers:
            layer.slots, layer.end = slice(slots.start, slots.stop), end
            layer.columns = positions[:, 0] if columns is None else columns
        asking = positions[:, :, None]
        distance = asking - torch.arange(end, device=positions.device)
        logits = logits_at(
            self._module,
            torch.tensor([range(len(slots)), read]),
            input_ids=tokens.to(positions.device),
            position_ids=positions,
            attention_mask=attention_masks(self._module, distance >= 0, distance),
            past_key_values=self._kept,
            use_cache=True,
        )
        for slot, token in zip(slots, logits.argmax(dim=-1).tolist(), strict=True):
            self.new[self._open[slot]].append(token)

    def _close(self, slot: int) -> None:
        """Frees a slot; the last row in use takes it."""
        last = self._open.pop()
        if slot < len(self._open):
            self._open[slot] = last
            for layer in self._layers:
                layer.move(len(self._open), slot)

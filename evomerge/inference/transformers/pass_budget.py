"""How much one forward pass reads: tokens that the memory holds, or the rows a genome asks for.

Scores do not depend on it beyond their last digits. It is found once for each kind of request,
with the longest items, and kept for the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from evomerge.inference.shortage import give_back, is_shortage

S = TypeVar("S", bound=Sized)

# Tokens of one pass under batch_size "auto", with padding and stems. On a CPU more gains nothing;
# elsewhere it is what keeps the device busy, and halved until the longest items fit.
TOKENS_PER_PASS = {"cpu": 4096, "mps": 4096}
TOKENS_PER_PASS_ELSEWHERE = 16384
TOKENS_OF_A_PASS = 64  # what a further pass costs beside its tokens
UNTRIED = ("cpu",)  # memory that grows by swapping tells nothing


def tokens_on(device: str) -> int:
    """Tokens of one pass at most, under batch_size "auto" on a type of device."""
    return TOKENS_PER_PASS.get(device, TOKENS_PER_PASS_ELSEWHERE)


@dataclass(frozen=True)
class PassBudget:
    """What one forward pass reads at most; one row is always read.

    Attributes:
        tokens: With padding and stems.
        rows: None for as many as the tokens allow.
    """

    tokens: int
    rows: int | None = None

    def split(self, items: Sequence[S], extra: int = 0) -> Iterator[list[S]]:
        """Splits rows or trees into as few forward passes as there are.

        Args:
            items: What is read, ordered by falling length.
            extra: Tokens that each of them needs beside its own.
        """
        start = 0
        while start < len(items):
            stop = start + self._room(items[start], extra)
            yield list(items[start:stop])
            start = stop

    def split_by_length(self, items: Sequence[S], extra: int = 0) -> Iterator[list[S]]:
        """The same into further passes where padding would cost more than these."""
        start = 0
        while start < len(items):
            batch = list(items[start : start + self._room(items[start], extra)])
            batch = batch[: _worth_their_padding(list(map(len, batch)))]
            yield batch
            start += len(batch)

    def _room(self, longest: S, extra: int) -> int:
        """How many items of a pass, the longest of which is given."""
        count = max(1, self.tokens // (len(longest) + extra))
        return count if self.rows is None else min(count, self.rows)


def _worth_their_padding(lengths: Sequence[int]) -> int:
    """How many of some items to read in one pass, where padding may cost more than a pass.

    Args:
        lengths: Of the items, falling.
    """
    n_all = len(lengths)
    saved = [(n_all - cut) * (lengths[0] - lengths[cut]) for cut in range(1, n_all)]
    most = max(saved, default=0)
    return saved.index(most) + 1 if most > TOKENS_OF_A_PASS else n_all


class PassBudgets:
    """The budget of each kind of request, found when the kind is first answered.

    Args:
        batch_size: Rows of a pass: no pass reads more rows, or trees, or more tokens than so many
            of the longest rows have. ``"auto"`` for a number of tokens.
    """

    def __init__(self, batch_size: int | Literal["auto"]) -> None:
        self._batch_size = batch_size
        self._tokens: dict[str, int] = {}
        self._kept: set[str] = set()
        self._device = torch.device("cpu")
        self._divisor = 1

    def bind(self, device: torch.device, divisor: int) -> None:
        """Sets where passes run, and what their size is divided by because memory ran out."""
        self._device, self._divisor = device, divisor

    def of(self, kind: str, longest: int, multiple: int = 1) -> PassBudget:
        """The budget of a kind of request, as far as it is found.

        Args:
            kind: Of request.
            longest: Tokens of the longest row.
            multiple: Of the tokens under ``"auto"``.
        """
        if self._batch_size != "auto":
            rows = max(1, self._batch_size // self._divisor)
            return PassBudget(rows * longest, rows)
        tokens = self._tokens.get(kind, tokens_on(self._device.type))
        return PassBudget(max(1, tokens * multiple // self._divisor))

    def find(self, kind: str, longest: int, attempt: Callable[[], object]) -> None:
        """Halves the budget of a kind of request until an attempt fits; once, and not on a CPU.

        Args:
            kind: Of request.
            longest: Tokens of the longest row; a pass never reads less.
            attempt: The largest passes under the budget that :meth:`of` then gives.

        Raises:
            RuntimeError: memory runs out with the longest row alone. So does MemoryError.
        """
        if self._batch_size != "auto" or self._device.type in UNTRIED or kind in self._kept:
            return
        tokens = self._tokens[kind] = tokens_on(self._device.type)
        while kind not in self._kept:
            try:
                attempt()
                self._kept.add(kind)
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error) or tokens <= longest * self._divisor:
                    raise
                give_back(error)
                tokens = self._tokens[kind] = tokens // 2

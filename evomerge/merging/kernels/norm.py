"""Norms of vectors that are never in memory as a whole, to the last bit of ``torch.norm``.

torch adds the squares of float32 numbers in one vector of the processor, from the first entry
to the last, whatever the number of threads. That is repeated here; whether it is what the
installed torch does is tried out once.

Source: PyTorch, ``aten/src/ATen/native/cpu/ReduceOpsKernel.cpp``
(``norm_kernel_tensor_iterator_impl``, the path over the last dimension).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

_WIDTHS = (4, 8, 16, 32)  # numbers in a vector, of all processors that torch knows
_UNROLLED = 4  # squares of the last numbers that the compiled loop takes together
_TRIED = (*range(33, 65), 1003, 5000, 20_001)  # entries; rounding may hide a wrong order


class Norm:
    """The norm of entries that come one block after the other.

    Args:
        width: Numbers in a vector; blocks are multiples of it, but for the last one.
    """

    def __init__(self, width: int) -> None:
        self._lanes = np.zeros(width, dtype=np.float32)
        self._rest = torch.empty(0)

    def add(self, entries: torch.Tensor) -> None:
        """Adds the next entries."""
        squares = entries.square().numpy()
        width = len(self._lanes)
        n_whole = len(squares) // width * width
        if n_whole:
            rows = squares[:n_whole].reshape(-1, width)
            rows[0] += self._lanes
            # numpy adds rows in turn, each number to the one above it.
            self._lanes = np.add.reduce(rows, axis=0)
        self._rest = entries[n_whole:].clone()

    def total(self) -> torch.Tensor:
        """The norm, once all entries are added."""
        total = self._lanes[0]
        for number in self._lanes[1:]:
            total = total + number
        found = torch.tensor(total)
        n_rounded = len(self._rest) // _UNROLLED * _UNROLLED
        for number in self._rest[:n_rounded]:
            found = found + number.square()
        for number in self._rest[n_rounded:]:  # with one rounding for square and sum
            found = torch.addcmul(found, number, number)
        return torch.tensor(np.sqrt(found.numpy()))


@cache
def norm_width() -> int | None:
    """The width of vectors with which torch's own norms come out; None: with none."""
    generator = torch.Generator().manual_seed(0)
    trials = [torch.randn(length, generator=generator) for length in _TRIED]
    for width in _WIDTHS:
        if all(torch.equal(_norm(trial, width), torch.norm(trial)) for trial in trials):
            return width
    return None


def _norm(entries: torch.Tensor, width: int) -> torch.Tensor:
    norm = Norm(width)
    norm.add(entries)
    return norm.total()

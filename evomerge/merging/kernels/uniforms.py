"""The random numbers of a merge, drawn once and kept: every merge starts from one seed.

On the CPU ``torch.bernoulli(p)`` takes one float32 uniform per element from its generator
and is ``uniform < p``; a run of uniforms is the same however it is cut into calls.
"""

from __future__ import annotations

import torch

from evomerge.merging.budget import Budget
from evomerge.merging.kernels.workspace import Workspace

_CHUNK = 1 << 20  # elements


class Uniforms:
    """A stream of float32 numbers in [0, 1), readable by position.

    What the budget has no room for is drawn anew in every merge, in order, and dropped
    as soon as ``release`` allows.

    Args:
        seed: As mergekit's ``--random-seed``.
        budget: Keeps chunks of the stream, from its start.
        workspace: For runs that cross two chunks.
    """

    def __init__(self, seed: int, budget: Budget, workspace: Workspace) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._budget = budget
        self._workspace = workspace
        self._kept: list[torch.Tensor] = []
        self._is_full = False
        self._after_kept = self._generator.get_state()
        self._late: dict[int, torch.Tensor] = {}
        self._n_drawn = 0  # chunks, in this merge; the kept ones count
        self._released = 0

    def restart(self) -> None:
        """Begins another merge."""
        self._late.clear()
        self._generator.set_state(self._after_kept)
        self._n_drawn = len(self._kept)
        self._released = 0

    def release(self, position: int) -> None:
        """Promises that nothing before this position is read again in this merge."""
        self._released = position // _CHUNK
        for index in [index for index in self._late if index < self._released]:
            del self._late[index]

    def read(self, start: int, stop: int) -> torch.Tensor:
        """The numbers from ``start`` up to ``stop``; not to be changed."""
        first, last = start // _CHUNK, (stop - 1) // _CHUNK
        if first == last:
            return self._chunk(first)[start - first * _CHUNK : stop - first * _CHUNK]
        joined = self._workspace.row("uniforms", stop - start)
        for index in range(first, last + 1):
            low, high = max(start, index * _CHUNK), min(stop, (index + 1) * _CHUNK)
            part = self._chunk(index)[low - index * _CHUNK : high - index * _CHUNK]
            joined[low - start : high - start] = part
        return joined

    def _chunk(self, index: int) -> torch.Tensor:
        while self._n_drawn <= index:
            self._draw()
        return self._kept[index] if index < len(self._kept) else self._late[index]

    def _draw(self) -> None:
        chunk = torch.empty(_CHUNK).uniform_(generator=self._generator)
        self._is_full = self._is_full or not self._budget.grants(self, 4 * _CHUNK)
        if not self._is_full:
            self._kept.append(chunk)
            self._after_kept = self._generator.get_state()
        elif self._n_drawn >= self._released:
            self._late[self._n_drawn] = chunk
        self._n_drawn += 1

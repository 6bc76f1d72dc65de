"""The random numbers of a merge, drawn once and kept: every merge starts from one seed.

On the CPU ``torch.bernoulli(p)`` takes one float32 uniform per element from its generator
and is ``uniform < p``; a run of uniforms is the same however it is cut into calls.
"""

from __future__ import annotations

from collections import OrderedDict

import torch

from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.kernels.workspace import Workspace

_CHUNK = 1 << 19  # elements
_LATE = 8  # chunks at hand that are not kept: two for each source of a tensor


class Uniforms:
    """A stream of float32 numbers in [0, 1), readable by position.

    What the budget has no room for is drawn anew in every merge, and drawn again where the
    task vectors of one tensor, which are far apart in the stream, are read side by side.

    Args:
        seed: As mergekit's ``--random-seed``.
        budget: Keeps chunks of the stream, from its start.
        workspace: For runs that cross two chunks.
    """

    def __init__(self, seed: int, budget: MemoryBudget, workspace: Workspace) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._budget = budget
        self._workspace = workspace
        self._kept: list[torch.Tensor] = []
        self._after_kept = self._generator.get_state()
        # Without gaps: the state of the generator before a chunk.
        self._states: dict[int, torch.Tensor] = {0: self._after_kept}
        self._late: OrderedDict[int, torch.Tensor] = OrderedDict()  # the latest read last

    def restart(self) -> None:
        """Begins another merge."""
        self._late.clear()
        self._states = {len(self._kept): self._after_kept}

    def release(self, position: int) -> None:
        """Promises that nothing before this position is read again in this merge."""
        first = min(position // _CHUNK, max(self._states))
        self._states = {i: state for i, state in self._states.items() if i >= first}
        for index in [index for index in self._late if index < first]:
            del self._late[index]

    def read(self, start: int, stop: int) -> torch.Tensor:
        """The numbers from ``start`` up to ``stop``; not to be changed, nor kept for long."""
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
        while index >= len(self._kept) and index not in self._late:
            self._draw(min(index, max(self._states)))
        if index < len(self._kept):
            return self._kept[index]
        self._late.move_to_end(index)
        return self._late[index]

    def _draw(self, index: int) -> None:
        """Draws a chunk whose state is known, and learns the next one's."""
        is_full = len(self._late) >= _LATE
        chunk = self._late.popitem(last=False)[1] if is_full else torch.empty(_CHUNK)
        self._generator.set_state(self._states[index])
        chunk.uniform_(generator=self._generator)
        self._states[index + 1] = self._generator.get_state()
        if index == len(self._kept) and self._budget.grants(self, 4 * _CHUNK):
            self._kept.append(chunk)
            self._after_kept = self._states[index + 1]
        else:
            self._late[index] = chunk

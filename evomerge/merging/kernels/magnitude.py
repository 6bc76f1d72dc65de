"""Keeping entries by magnitude: ties keeps the largest, breadcrumbs a band below them.

mergekit sorts every task vector in every merge. The order does not depend on the point,
so it is found once, by the same call, and the rank of every entry is kept; what a density
keeps is then one comparison. A threshold alone would not do: torch's sort leaves equal
magnitudes in an order of its own, and task vectors of bfloat16 models are full of them.
Where there is no room for ranks, that order is followed as far as the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from typing_extensions import Self

from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.kernels.selection import NONE, First, first, keys_of
from evomerge.merging.kernels.sparsify import Everything, Parameters, erase
from evomerge.merging.kernels.task_vector import Pick, TaskVectors
from evomerge.merging.kernels.tools import Tools
from evomerge.merging.kernels.workspace import Workspace, spans
from evomerge.merging.offload import offloaded

_SORTING = 24  # bytes per element while sorting
_EXACT_RANKS = 1 << 24  # float32 counts no further


class _Ranked(Everything):
    """What both methods share.

    Args:
        vectors: Of one tensor.
        workspace: Block buffers.
        budget: Keeps the ranks; without room a tensor is searched in every merge.
    """

    _descending: bool

    def __init__(self, vectors: TaskVectors, workspace: Workspace, budget: MemoryBudget) -> None:
        super().__init__(workspace)
        self._vectors = vectors
        self._budget = budget
        self._ranks: dict[tuple[int, int], torch.Tensor] = {}

    @classmethod
    def of(cls, vectors: TaskVectors, tools: Tools) -> Self | None:
        """See :class:`Sparsifier`."""
        return cls(vectors, tools.workspace, tools.budget)

    def is_rescaled(self, pick: Pick) -> bool:
        """Unless nothing is kept because the density is 0."""
        return pick is not erase

    def _kept_ranks(self, index: int) -> torch.Tensor | None:
        """The place of every entry in the order of magnitudes; None: no room to keep it."""
        key = (index, torch.get_num_threads())
        if key not in self._ranks:
            length = self._vectors.length
            if not self._budget.grants(self, 4 * length, passing=_SORTING * length):
                return None
            self._ranks[key] = self._found(index)
        return self._ranks[key]

    def _found(self, index: int) -> torch.Tensor:
        order = self._order(index)
        exact = len(order) <= _EXACT_RANKS
        ranks = torch.empty(len(order), dtype=torch.float32 if exact else torch.int32)
        for start, stop in spans(len(order), self.step):
            ranks[order[start:stop]] = torch.arange(start, stop, dtype=ranks.dtype)
        return ranks

    def _order(self, index: int) -> torch.Tensor:
        """mergekit's: by the same sort, because it is the sort that orders equal magnitudes."""
        length = self._vectors.length
        magnitudes = offloaded((length,), torch.float32)
        order = offloaded((length,), torch.int64)
        self._vectors.magnitudes(index, magnitudes)
        torch.sort(magnitudes, descending=self._descending, out=(magnitudes, order))
        return order

    def _between(self, index: int, low: int, high: int) -> Pick:
        """Those with ranks from ``low`` up to ``high``."""
        ranks = self._kept_ranks(index)
        if ranks is not None:
            return partial(self._keep, ranks, low, high)
        ends: list[First] = []
        for n_first in (low, high):
            end = self._first(index, n_first) if n_first > 0 else NONE
            if end is None:
                return partial(self._mask, self._marked(index, low, high))
            ends.append(end)
        return partial(self._keep_between, ends)

    def _first(self, index: int, n_first: int) -> First | None:
        """The first so many in the order; None: only a sort would tell."""

        def keys(start: int, stop: int) -> torch.Tensor:
            own = self._workspace.row("keys", stop - start)
            base = self._vectors.base(start, stop)
            return self._keys(self._vectors.block(index, base, start, stop, own))

        return first(self._vectors.length, n_first, keys)

    def _keys(self, delta: torch.Tensor) -> torch.Tensor:
        """In a buffer, smaller where an entry comes earlier."""
        magnitudes = torch.abs(delta, out=self._workspace.row("keys", delta.numel()))
        return keys_of(magnitudes, descending=self._descending)

    def _keep_between(
        self, ends: Sequence[First], delta: torch.Tensor, start: int, out: torch.Tensor
    ) -> None:
        """Those that are among the last of the ends and not among the others."""
        length = delta.numel()
        keys = self._keys(delta)
        among = self._workspace.row("among", length, torch.bool)
        chosen = self._workspace.row("chosen", length, torch.bool).zero_()
        for end in ends:
            chosen.logical_xor_(end.among(keys, start, among))
        torch.mul(delta, self._workspace.row("kept", length).copy_(chosen), out=out)

    def _marked(self, index: int, low: int, high: int) -> torch.Tensor:
        """True where an entry is kept."""
        order = self._order(index)[low:high]
        marks = offloaded((self._vectors.length,), torch.bool).zero_()
        for start, stop in spans(len(order), self.step):
            marks[order[start:stop]] = True
        return marks

    def _mask(
        self, marks: torch.Tensor, delta: torch.Tensor, start: int, out: torch.Tensor
    ) -> None:
        length = delta.numel()
        kept = self._workspace.row("kept", length).copy_(marks[start : start + length])
        torch.mul(delta, kept, out=out)

    def _keep(
        self,
        ranks: torch.Tensor,
        low: int,
        high: int,
        delta: torch.Tensor,
        start: int,
        out: torch.Tensor,
    ) -> None:
        length = delta.numel()
        block = ranks[start : start + length]
        kept = self._is_below(block, high, self._workspace.row("kept", length))
        if low > 0:
            kept.sub_(self._is_below(block, low, self._workspace.row("too low", length)))
        torch.mul(delta, kept, out=out)

    def _is_below(self, ranks: torch.Tensor, limit: int, out: torch.Tensor) -> torch.Tensor:
        """Ones and zeros; torch compares into float32 several times faster than into bool."""
        if ranks.dtype == torch.float32:
            return torch.lt(ranks, limit, out=out)
        distance = self._workspace.row("distance", ranks.numel(), ranks.dtype)
        out.copy_(torch.sub(ranks, limit, out=distance))  # rounded, its sign is right
        return torch.lt(out, 0, out=out)


class Largest(_Ranked):
    """The share ``density`` of largest magnitude, at least one."""

    _descending = True

    def pick(self, index: int, parameters: Parameters, at: int) -> Pick | None:
        """The first in descending order."""
        density = parameters["density"]
        if density >= 1:
            return None
        if density <= 0:
            return erase
        return self._between(index, 0, max(1, int(density * self._vectors.length)))


class Band(_Ranked):
    """The share ``density`` below the share ``gamma`` of largest magnitude."""

    _descending = False

    def admits(self, index: int, parameters: Parameters) -> bool:
        """Unless a share is negative, which mergekit reads as a place from the end."""
        density, gamma = parameters["density"], parameters["gamma"]
        return not (density < 1 and min(density, gamma) < 0)

    def pick(self, index: int, parameters: Parameters, at: int) -> Pick | None:
        """Those in ascending order that leave out the largest, then the smallest."""
        density, length = parameters["density"], self._vectors.length
        if density >= 1:
            return None
        n_kept = int(density * length)
        low = max(0, length - n_kept - int(parameters["gamma"] * length))
        return self._between(index, low, low + n_kept)

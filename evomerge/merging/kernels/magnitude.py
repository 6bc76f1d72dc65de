"""Keeping entries by magnitude: ties keeps the largest, breadcrumbs a band below them.

mergekit sorts every task vector in every merge. The order does not depend on the point,
so it is found once, by the same call, and the rank of every entry is kept; what a density
keeps is then one comparison. No threshold would do instead: torch's sort leaves equal
magnitudes in an order of its own, and task vectors of bfloat16 models are full of them.
"""

from __future__ import annotations

from functools import partial

import torch

from evomerge.merging.budget import Budget
from evomerge.merging.kernels.sparsify import Everything, Parameters, erase
from evomerge.merging.kernels.task_vector import Pick, TaskVectors
from evomerge.merging.kernels.workspace import Workspace

_SORTING = 24  # bytes per element while sorting
_EXACT_RANKS = 1 << 24  # float32 counts no further


class _Ranked(Everything):
    """What both methods share.

    Args:
        vectors: Of one tensor.
        workspace: Block buffers.
        budget: Keeps the ranks; a tensor without room is left to mergekit's kernel.
    """

    _descending: bool

    def __init__(self, vectors: TaskVectors, workspace: Workspace, budget: Budget) -> None:
        super().__init__(workspace)
        self._vectors = vectors
        self._budget = budget
        self._ranks: dict[tuple[int, int], torch.Tensor | None] = {}

    def is_rescaled(self, pick: Pick) -> bool:
        """Unless nothing is kept because the density is 0."""
        return pick is not erase

    def admits(self, index: int, parameters: Parameters) -> bool:
        """Where the ranks are known, or not needed."""
        density = parameters["density"]
        return bool(density >= 1 or self._ranks_of(index) is not None)

    def _ranks_of(self, index: int) -> torch.Tensor | None:
        key = (index, torch.get_num_threads())
        if key not in self._ranks:
            length = self._vectors.length
            room = self._budget.grants(self, 4 * length, passing=_SORTING * length)
            self._ranks[key] = self._found(index) if room else None
        return self._ranks[key]

    def _found(self, index: int) -> torch.Tensor:
        magnitudes = self._vectors.magnitudes(index).view(-1)
        order = torch.argsort(magnitudes, descending=self._descending)
        del magnitudes
        exact = len(order) <= _EXACT_RANKS
        ranks = torch.empty(len(order), dtype=torch.float32 if exact else torch.int32)
        ranks[order] = torch.arange(len(order), dtype=ranks.dtype)
        return ranks

    def _between(self, index: int, low: int, high: int) -> Pick:
        """Those with ranks from ``low`` up to ``high``."""
        ranks = self._ranks_of(index)
        if ranks is None:
            raise RuntimeError("ranks that were not admitted")  # admits() was not asked
        return partial(self._keep, ranks, low, high)

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
        if parameters["density"] < 1 and min(parameters["density"], parameters["gamma"]) < 0:
            return False
        return super().admits(index, parameters)

    def pick(self, index: int, parameters: Parameters, at: int) -> Pick | None:
        """Those in ascending order that leave out the largest, then the smallest."""
        density, length = parameters["density"], self._vectors.length
        if density >= 1:
            return None
        n_kept = int(density * length)
        low = max(0, length - n_kept - int(parameters["gamma"] * length))
        return self._between(index, low, low + n_kept)

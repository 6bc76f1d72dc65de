"""Keeping entries at random: dare with one probability, della with one by rank in its row."""

from __future__ import annotations

from functools import partial

import torch
from typing_extensions import Self

from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.kernels.sparsify import Everything, Parameters, erase
from evomerge.merging.kernels.task_vector import Pick, TaskVectors
from evomerge.merging.kernels.tools import Tools
from evomerge.merging.kernels.uniforms import Uniforms
from evomerge.merging.kernels.workspace import Workspace, spans


class Dare(Everything):
    """Keeps every entry with probability ``density``.

    Args:
        workspace: Block buffers.
        uniforms: The random numbers of the merge.
    """

    def __init__(self, workspace: Workspace, uniforms: Uniforms) -> None:
        super().__init__(workspace)
        self._uniforms = uniforms

    @classmethod
    def of(cls, vectors: TaskVectors, tools: Tools) -> Self | None:
        """See :class:`Sparsifier`."""
        return cls(tools.workspace, tools.uniforms)

    def is_random(self, parameters: Parameters) -> bool:
        """Unless the density is 1: with 0, numbers are drawn and nothing is kept."""
        return bool(parameters["density"] < 1)

    def admits(self, index: int, parameters: Parameters) -> bool:
        """Where the density is no negative number, which mergekit refuses."""
        return bool(parameters["density"] >= 0)

    def is_rescaled(self, pick: Pick) -> bool:
        """Always."""
        return True

    def pick(self, index: int, parameters: Parameters, at: int) -> Pick | None:
        """Those whose number is below the density."""
        if parameters["density"] >= 1:
            return None
        return partial(self._thin, float(torch.tensor(parameters["density"])), at)

    def _thin(
        self, density: float, at: int, delta: torch.Tensor, start: int, out: torch.Tensor
    ) -> None:
        length = delta.numel()
        uniforms = self._uniforms.read(at + start, at + start + length)
        kept = torch.lt(uniforms, density, out=self._workspace.row("kept", length))
        torch.mul(delta, kept, out=out)


class Della(Dare):
    """Keeps entries with probability ``density`` -/+ ``epsilon``, the larger the likelier.

    Args:
        vectors: Of one tensor, of one or two dimensions, rows longer than one.
        workspace: Block buffers.
        uniforms: The random numbers of the merge.
        budget: Keeps the ranks; without room they are found in every merge.
    """

    def __init__(
        self, vectors: TaskVectors, workspace: Workspace, uniforms: Uniforms, budget: MemoryBudget
    ) -> None:
        super().__init__(workspace, uniforms)
        self._vectors = vectors
        self._budget = budget
        self._columns = vectors.shape[-1]
        self._rank_type = torch.int16 if self._columns <= 1 << 15 else torch.int32
        self._ranks: dict[int, torch.Tensor] = {}
        self._last = torch.tensor([self._columns - 1.0])

    @classmethod
    def of(cls, vectors: TaskVectors, tools: Tools) -> Self | None:
        """See :class:`Sparsifier`."""
        if not (1 <= len(vectors.shape) <= 2 and 1 < vectors.shape[-1] < 1 << 24):
            return None  # no rows with ranks
        return cls(vectors, tools.workspace, tools.uniforms, tools.budget)

    @property
    def step(self) -> int:
        """Whole rows."""
        return max(1, self._workspace.block // self._columns) * self._columns

    def is_random(self, parameters: Parameters) -> bool:
        """Where the density is inside (0, 1)."""
        return bool(0 < parameters["density"] < 1)

    def admits(self, index: int, parameters: Parameters) -> bool:
        """Where the probabilities are; mergekit refuses others."""
        density, epsilon = parameters["density"], parameters["epsilon"]
        inside = density - epsilon > 0 and density + epsilon < 1 and epsilon >= 0
        return bool(density <= 0 or density >= 1 or inside)

    def is_rescaled(self, pick: Pick) -> bool:
        """Unless nothing is kept because the density is 0."""
        return pick is not erase

    def pick(self, index: int, parameters: Parameters, at: int) -> Pick | None:
        """Those whose number is below their probability."""
        density, epsilon = parameters["density"], parameters["epsilon"]
        if density >= 1:
            return None
        if density <= 0:
            return erase
        slope = 2 * float(torch.tensor(epsilon))
        return partial(self._thin_by_rank, self._kept_ranks(index), density - epsilon, slope, at)

    def _kept_ranks(self, index: int) -> torch.Tensor | None:
        if index in self._ranks:
            return self._ranks[index]
        length = self._vectors.length
        if not self._budget.grants(self, length * self._rank_type.itemsize):
            return None
        ranks = torch.empty(length, dtype=self._rank_type)
        for start, stop in spans(length, self.step):
            own = self._workspace.row("ranked", stop - start)
            base = self._vectors.base(start, stop)
            ranks[start:stop] = self._found(self._vectors.block(index, base, start, stop, own))
        self._ranks[index] = ranks
        return ranks

    def _found(self, delta: torch.Tensor) -> torch.Tensor:
        """The ranks of a block of whole rows, from 0, by mergekit's own two sorts."""
        magnitudes = delta.view(-1, self._columns).abs()
        return torch.argsort(magnitudes, dim=1).argsort(dim=1).view(-1)

    def _thin_by_rank(
        self,
        ranks: torch.Tensor | None,
        lowest: float,
        slope: float,
        at: int,
        delta: torch.Tensor,
        start: int,
        out: torch.Tensor,
    ) -> None:
        length = delta.numel()
        found = self._found(delta) if ranks is None else ranks[start : start + length]
        kept = self._workspace.row("kept", length).copy_(found)
        kept.div_(self._last).mul_(slope).add_(lowest)
        torch.lt(self._uniforms.read(at + start, at + start + length), kept, out=kept)
        torch.mul(delta, kept, out=out)

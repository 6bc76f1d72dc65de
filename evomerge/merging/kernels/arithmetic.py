"""The task arithmetic family: sparsified task vectors, weighted, agreed upon and summed.

mergekit multiplies by a weight and adds in two roundings where one fused operation of
torch does it in one. ``addcmul(sum, vector, 1, value=weight)`` rounds weight * vector,
multiplies by one and adds: the same two roundings in one pass.

Sums start from zero, as mergekit's do: a sum of negative zeros is a positive one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from evomerge.merging.kernels.output import Output
from evomerge.merging.kernels.sparsify import Keep, Parameters, Sparsifier
from evomerge.merging.kernels.task_vector import Pick, TaskVectors
from evomerge.merging.kernels.workspace import Workspace, spans
from evomerge.merging.structure import Values

MAX_SOURCES = 4  # torch adds the rows of more in an order that depends on the column
_SMALL_NORM = 1e-7  # mergekit's: no rescaling below
_SMALL_DIVISOR = 1e-8


@dataclass(frozen=True)
class _Mix:
    """How the task vectors of one tensor are added.

    Attributes:
        picks: What is kept of each, and what makes up for the rest.
        weights: Of each.
        divisor: By which the sum is divided; None for nothing.
    """

    picks: Sequence[Keep]
    weights: Sequence[float]
    divisor: torch.Tensor | None


class Arithmetic:
    """One output tensor of the family.

    Args:
        vectors: Its task vectors.
        sparsifier: What becomes of them first.
        consensus: Whether only entries of the majority's sign count.
        workspace: Block buffers.
    """

    def __init__(
        self,
        vectors: TaskVectors,
        sparsifier: Sparsifier,
        workspace: Workspace,
        *,
        consensus: bool,
    ) -> None:
        self.shape, self.work = vectors.shape, torch.float32
        self._vectors = vectors
        self._sparsifier = sparsifier
        self._consensus = consensus
        self._workspace = workspace

    def draws(self, values: Values) -> int:
        """One number per element of each task vector that is thinned at random."""
        return sum(map(self._draws, self._vectors.settings.of(values)))

    def _draws(self, entry: Parameters) -> int:
        return self._vectors.length if self._sparsifier.is_random(entry) else 0

    def admits(self, values: Values) -> bool:
        """Whether the sparsifier can do what the parameters ask."""
        entries = enumerate(self._vectors.settings.of(values))
        return all(self._sparsifier.admits(i, entry) for i, entry in entries)

    def write(self, values: Values, output: Output, at: int) -> None:
        """Fills the output."""
        vectors = self._vectors
        vectors.keep()
        picks: list[Keep] = []
        entries = vectors.settings.of(values)
        for index, entry in enumerate(entries):
            pick = self._sparsifier.pick(index, entry, at)
            picks.append((pick, self._scale(index, pick) if values.shared["rescale"] else None))
            at += self._draws(entry)
        weights = [float(entry["weight"]) for entry in entries]
        divisor = self._divisor(weights) if values.shared["normalize"] else None
        factor = values.shared["lambda"]
        if not self._consensus and all(scale is None for _, scale in picks):
            output.expect(vectors.largest(weights, divisor, factor))
        mix = _Mix(picks, weights, divisor)
        combine = self._agreed if self._consensus else self._summed
        for start, stop in spans(vectors.length, self._sparsifier.step):
            base = vectors.base(start, stop)
            mixed = combine(base, start, stop, mix)
            if factor != 1:
                mixed.mul_(factor)
            output.put(start, stop, torch.add(base, mixed, out=mixed))

    def _scale(self, index: int, pick: Pick | None) -> torch.Tensor | None:
        """What makes up for the magnitudes that are dropped."""
        if pick is None or not self._sparsifier.is_rescaled(pick):
            return None
        before = self._vectors.norm(index)
        after = self._vectors.sum(index, pick, self._sparsifier.step)
        if before < _SMALL_NORM or after < _SMALL_NORM:
            return None
        return before / after

    def _divisor(self, weights: Sequence[float]) -> torch.Tensor:
        column = torch.tensor(weights, dtype=torch.float32).unsqueeze(-1)
        divisor = column.sum(dim=0)
        divisor[divisor.abs() < _SMALL_DIVISOR] = 1
        return divisor

    def _kept(
        self, index: int, base: torch.Tensor, start: int, stop: int, keep: Keep
    ) -> torch.Tensor:
        """A block of a sparsified task vector; kept ones are not to be changed."""
        own = self._workspace.row(f"vector {index}", stop - start)
        block = self._vectors.block(index, base, start, stop, own)
        pick, scale = keep
        if pick is not None:
            pick(block, start, own)
            block = own
        return block if scale is None else torch.mul(block, scale, out=own)

    def _summed(self, base: torch.Tensor, start: int, stop: int, mix: _Mix) -> torch.Tensor:
        """The weighted sum of a block, in a buffer."""
        mixed = self._workspace.row("mixed", stop - start)
        total = self._workspace.zeros(stop - start)
        for index, (keep, weight) in enumerate(zip(mix.picks, mix.weights, strict=True)):
            block = self._kept(index, base, start, stop, keep)
            total = torch.addcmul(total, block, self._workspace.unit, value=weight, out=mixed)
        return mixed if mix.divisor is None else mixed.div_(mix.divisor)

    def _agreed(self, base: torch.Tensor, start: int, stop: int, mix: _Mix) -> torch.Tensor:
        """The weighted sum of the entries that have the sign of the sum of all."""
        row = self._workspace.row
        length = stop - start
        majority = row("majority", length)
        total = self._workspace.zeros(length)
        rows = []
        for index, (keep, weight) in enumerate(zip(mix.picks, mix.weights, strict=True)):
            block = self._kept(index, base, start, stop, keep)
            rows.append(torch.mul(block, weight, out=row(f"vector {index}", length)))
            total = torch.add(total, rows[-1], out=majority)
        torch.ge(majority, 0, out=majority)
        majority.mul_(2).sub_(1)
        agrees, mixed, weight_sum = row("agrees", length), row("mixed", length), row("sum", length)
        total, total_weight = self._workspace.zeros(length), self._workspace.zeros(length)
        for block, weight in zip(rows, mix.weights, strict=True):
            torch.mul(block, majority, out=agrees)
            torch.gt(agrees, 0, out=agrees)
            total = torch.addcmul(total, block, agrees, out=mixed)
            if mix.divisor is not None:
                total_weight = torch.add(total_weight, agrees, alpha=weight, out=weight_sum)
        if mix.divisor is not None:
            torch.eq(weight_sum, 0, out=agrees)
            mixed.div_(weight_sum.add_(agrees))
        return mixed

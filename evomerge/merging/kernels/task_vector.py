"""Task vectors of one output tensor, block by block, kept in float32 where there is room."""

from __future__ import annotations

from collections.abc import Callable

import torch

from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.kernels.bounds import Magnitudes
from evomerge.merging.kernels.kernel import Inlet, KernelSettings
from evomerge.merging.kernels.reuse import Uses
from evomerge.merging.kernels.summation import Blocks, blockwise_sum
from evomerge.merging.kernels.workspace import Workspace, part, spans
from evomerge.merging.offload import offloaded

# (entries of a task vector, place of the first, where to write those that are kept)
Pick = Callable[[torch.Tensor, int, torch.Tensor], None]

_WHOLE = 1 << 22  # elements: 16 MiB, summed three times as fast in one piece


class TaskVectors:
    """Source minus base for every source, as mergekit computes it in float32.

    Args:
        base: Flat.
        inlet: The sources.
        workspace: Block buffers.
        budget: Keeps the differences from the second merge on, so that what is dearer to
            compute anew is granted first.

    Attributes:
        length: Elements of each.
        n_sources: How many there are.
        settings: Finds the parameters of the sources.
        shape: Of the tensor.
        stored: Base and sources, as they are stored.
    """

    def __init__(
        self, base: torch.Tensor, inlet: Inlet, workspace: Workspace, budget: MemoryBudget
    ) -> None:
        self.length = base.numel()
        self.n_sources = len(inlet.sources)
        self.shape = inlet.shape
        self.settings = KernelSettings([model for model, _ in inlet.sources])
        self._base = base
        self._sources = [source for _, source in inlet.sources]
        self._workspace = workspace
        self._budget = budget
        self.stored = [base, *self._sources]
        self._magnitudes = Magnitudes(self.stored)
        self._kept: list[torch.Tensor] = []
        self._uses = Uses()
        self._norms: dict[tuple[int, int], torch.Tensor] = {}

    def base(self, start: int, stop: int) -> torch.Tensor:
        """A block of the base in float32; not to be changed."""
        return self._workspace.float32(part(self._base, start, stop), "base")

    def block(
        self, index: int, base: torch.Tensor, start: int, stop: int, out: torch.Tensor
    ) -> torch.Tensor:
        """A block of one task vector: in ``out``, or kept and not to be changed."""
        if self._kept:
            return part(self._kept[index], start, stop)
        source = part(self._sources[index], start, stop)
        if source.dtype != torch.float32:
            source = out.copy_(source)
        return torch.sub(source, base, out=out)

    def magnitudes(self, index: int, out: torch.Tensor) -> None:
        """Fills ``out`` with all magnitudes of one task vector."""
        for start, stop in spans(self.length, self._workspace.block):
            out[start:stop] = self._block_of_magnitudes(index, None, start, stop)

    def sum(self, index: int, pick: Pick | None = None, step: int = 0) -> torch.Tensor:
        """The sum of the magnitudes of one task vector, as torch sums a whole tensor.

        Args:
            index: Of the source.
            pick: What is kept; None: everything.
            step: Elements that ``pick`` takes at a time; 0: the workspace's block.
        """
        step = step or self._workspace.block
        if self.length <= _WHOLE:
            return self._sum_in(self._workspace.row("whole", self.length), index, pick, step)
        blocks = Blocks(
            self.length,
            step,
            lambda start, stop: self._block_of_magnitudes(index, pick, start, stop),
            self._workspace,
        )
        total = blockwise_sum(self.length, blocks.read)
        if total is not None:
            return total
        return self._sum_in(offloaded((self.length,), torch.float32), index, pick, step)

    def _sum_in(
        self, whole: torch.Tensor, index: int, pick: Pick | None, step: int
    ) -> torch.Tensor:
        """The sum by torch itself, of a whole tensor that is filled for it."""
        for start, stop in spans(self.length, step):
            whole[start:stop] = self._block_of_magnitudes(index, pick, start, stop)
        return whole.view(self.shape).sum()

    def _block_of_magnitudes(
        self, index: int, pick: Pick | None, start: int, stop: int
    ) -> torch.Tensor:
        """In a buffer; those that are not kept are zeros."""
        out = self._workspace.row("magnitudes", stop - start)
        delta = self.block(index, self.base(start, stop), start, stop, out)
        if pick:
            pick(delta, start, out)
            delta = out
        return torch.abs(delta, out=out)

    def largest(self, amplification: float, scale: float) -> float:
        """No entry of base plus ``scale`` times their weighted sum is larger.

        Args:
            amplification: How much larger than the largest of their entries the sum can be.
            scale: Of the sum.
        """
        bound = 2 * amplification * self._magnitudes.largest
        return self._magnitudes.largest + max(1.0, abs(scale)) * bound

    def norm(self, index: int) -> torch.Tensor:
        """The sum of magnitudes; its last bits depend on the number of threads."""
        key = (index, torch.get_num_threads())
        if key not in self._norms:
            self._norms[key] = self.sum(index)
        return self._norms[key]

    def keep(self) -> None:
        """Keeps all task vectors of this tensor if this is not the first merge."""
        if not self._uses.again() or self._kept:
            return
        if self._budget.grants(self, 4 * self.length * len(self._sources)):
            self._kept = [self._difference(source) for source in self._sources]

    def _difference(self, source: torch.Tensor) -> torch.Tensor:
        whole = torch.empty(self.length)
        for start, stop in spans(self.length, self._workspace.block):
            block = self._workspace.float32(source[start:stop], "source")
            torch.sub(block, self.base(start, stop), out=whole[start:stop])
        return whole

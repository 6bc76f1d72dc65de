"""The task arithmetic family: sparsified task vectors, weighted, agreed upon and summed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from typing_extensions import Self

from evomerge.foundations.registry import Registry
from evomerge.merging.kernels.combination import Columns, Combine, Mix, agreed, summed
from evomerge.merging.kernels.fused import ARITHMETIC, Fusion
from evomerge.merging.kernels.kernel import Inlet
from evomerge.merging.kernels.output import OutputTensor
from evomerge.merging.kernels.row_sums import adds_as_known, lane_columns, max_rows
from evomerge.merging.kernels.sparsify import Keep, Sparsifier
from evomerge.merging.kernels.task_vector import Pick, TaskVectors
from evomerge.merging.kernels.tools import Tools
from evomerge.merging.kernels.workspace import Workspace, spans
from evomerge.merging.sources import InputTensors
from evomerge.merging.values import Values

_SMALL_NORM = 1e-7  # mergekit's: no rescaling below
# Method -> how its task vectors are sparsified; those that are not here are whole.
SPARSIFIERS: Registry[type[Sparsifier]] = Registry(
    "sparsifier",
    {
        "ties": "evomerge.merging.kernels.magnitude:Largest",
        "breadcrumbs": "evomerge.merging.kernels.magnitude:Band",
        "breadcrumbs_ties": "evomerge.merging.kernels.magnitude:Band",
        "dare_linear": "evomerge.merging.kernels.thinning:Dare",
        "dare_ties": "evomerge.merging.kernels.thinning:Dare",
        "della_linear": "evomerge.merging.kernels.thinning:Della",
        "della": "evomerge.merging.kernels.thinning:Della",
    },
)
AGREED = ("ties", "breadcrumbs_ties", "dare_ties", "della")  # the others are summed as they are


class Arithmetic:
    """One output tensor of the family.

    Args:
        vectors: Its task vectors.
        sparsifier: What becomes of them first; None: nothing, whatever the density says.
        combine: How they are added.
        workspace: Block buffers.
        fusion: Compiled sums.
    """

    def __init__(
        self,
        vectors: TaskVectors,
        sparsifier: Sparsifier | None,
        combine: Combine,
        workspace: Workspace,
        fusion: Fusion,
    ) -> None:
        self.shape, self.work = vectors.shape, torch.float32
        self._vectors = vectors
        self._sparsifier = sparsifier
        self._combine = combine
        self._workspace = workspace
        self._fusion = fusion

    @classmethod
    def of(cls, task: ExecuteMergeMethodTask, inputs: InputTensors, tools: Tools) -> Self | None:
        """See :class:`Kernel`."""
        inlet = Inlet.of(task, inputs, base=task.base_model)
        if inlet is None or inlet.base is None or inlet.work != torch.float32:
            return None
        if not 1 <= len(inlet.sources) <= max_rows(inlet.shape.numel()):
            return None
        vectors = TaskVectors(inlet.base, inlet, tools.workspace, tools.budget)
        sparsifier = None
        if task.method_name in SPARSIFIERS:
            sparsifier = SPARSIFIERS[task.method_name].of(vectors, tools)
            if sparsifier is None:
                return None
        combine = agreed if task.method_name in AGREED else summed
        return cls(vectors, sparsifier, combine, tools.workspace, tools.fusion)

    def draws(self, values: Values) -> int:
        """One number per element of each task vector that is thinned at random."""
        if self._sparsifier is None:
            return 0
        n_random = sum(map(self._sparsifier.is_random, self._vectors.settings.of(values)))
        return n_random * self._vectors.length

    def admits(self, values: Values) -> bool:
        """Whether the sparsifier does what the parameters ask, and torch adds as is known."""
        if not adds_as_known(self._vectors.n_sources):
            return False
        if self._sparsifier is None:
            return True
        entries = enumerate(self._vectors.settings.of(values))
        return all(self._sparsifier.admits(i, entry) for i, entry in entries)

    def write(self, values: Values, output: OutputTensor, at: int) -> None:
        """Fills the output."""
        vectors = self._vectors
        mix = vectors.settings.once(values, Mix.of)
        factor = values.shared["lambda"]
        lanes = lane_columns(vectors.length, vectors.n_sources)
        if self._sparsifier is not None:
            vectors.keep()
        keeps = self._keeps(values, at)
        if self._combine is summed and all(scale is None for _, scale in keeps):
            output.expect(vectors.largest(mix.amplification, factor))
        if self._sparsifier is None:
            if not lanes and self._fusion.fills(
                output, ARITHMETIC, mix.scalars, mix.divisor, vectors.stored
            ):
                return
            vectors.keep()
        step = self._sparsifier.step if self._sparsifier else self._workspace.block
        for start, stop in spans(vectors.length, step):
            base = vectors.base(start, stop)
            blocks = self._blocks(base, start, stop, keeps)
            inside = _inside(lanes, start, stop) if lanes else ()
            mixed = self._combine(blocks, stop - start, mix, inside, self._workspace)
            if factor != 1:
                mixed.mul_(factor)
            output.put(start, stop, torch.add(base, mixed, out=mixed))

    def _keeps(self, values: Values, at: int) -> Sequence[Keep]:
        """What is kept of each task vector."""
        sparsifier, vectors = self._sparsifier, self._vectors
        if sparsifier is None:
            return [(None, None)] * vectors.n_sources
        keeps: list[Keep] = []
        for index, entry in enumerate(vectors.settings.of(values)):
            pick = sparsifier.pick(index, entry, at)
            scale = self._scale(sparsifier, index, pick) if values.shared["rescale"] else None
            keeps.append((pick, scale))
            at += vectors.length if sparsifier.is_random(entry) else 0
        return keeps

    def _scale(self, sparsifier: Sparsifier, index: int, pick: Pick | None) -> torch.Tensor | None:
        """What makes up for the magnitudes that are dropped."""
        if pick is None or not sparsifier.is_rescaled(pick):
            return None
        before = self._vectors.norm(index)
        after = self._vectors.sum(index, pick, sparsifier.step)
        if before < _SMALL_NORM or after < _SMALL_NORM:
            return None
        return before / after

    def _blocks(
        self, base: torch.Tensor, start: int, stop: int, keeps: Sequence[Keep]
    ) -> Iterator[torch.Tensor]:
        """A block of each sparsified task vector; kept ones are not to be changed."""
        for index, (pick, scale) in enumerate(keeps):
            own = self._workspace.row(f"vector {index}", stop - start)
            block = self._vectors.block(index, base, start, stop, own)
            if pick is not None:
                pick(block, start, own)
                block = own
            yield block if scale is None else torch.mul(block, scale, out=own)


def _inside(ranges: Sequence[tuple[int, int]], start: int, stop: int) -> Columns:
    """The parts of ranges that lie in a block, counted from its start."""
    return [
        slice(max(low, start) - start, min(high, stop) - start)
        for low, high in ranges
        if low < stop and high > start
    ]

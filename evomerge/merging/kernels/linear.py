"""The linear method: the weighted sum of sources, in mergekit's order of roundings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from typing_extensions import Self

from evomerge.merging.kernels.bounds import Magnitudes, amplification
from evomerge.merging.kernels.fused import LINEAR, Fusion, scalars_of
from evomerge.merging.kernels.kernel import Entries, Inlet, KernelSettings
from evomerge.merging.kernels.output import OutputTensor
from evomerge.merging.kernels.reuse import Operands
from evomerge.merging.kernels.tools import Tools
from evomerge.merging.kernels.workspace import Workspace, part, spans
from evomerge.merging.sources import InputTensors
from evomerge.merging.values import Values


@dataclass(frozen=True)
class _Mix:
    """How the sources are added.

    Attributes:
        weights: Of each, shape (1,).
        scalars: The same for a compiled sum.
        divisor: By which the sum is divided, shape (1,); None for nothing.
        amplification: How much larger than an entry of a source the sum can be.
    """

    weights: tuple[torch.Tensor, ...]
    scalars: torch.Tensor
    divisor: torch.Tensor | None
    amplification: float

    @classmethod
    def of(cls, entries: Entries, shared: Mapping[str, Any]) -> _Mix:
        numbers = [float(entry["weight"]) for entry in entries]
        row = torch.tensor(numbers, dtype=torch.float32)
        divisor = row.unsqueeze(0).sum(dim=1) if shared["normalize"] else None
        weights = row.unsqueeze(1).unbind()
        return cls(weights, scalars_of(numbers), divisor, amplification(numbers, divisor))


class Linear:
    """One output tensor of a linear merge.

    ``addcmul`` rounds once for multiply and add, as in mergekit's kernel, which calls the
    same operation on whole tensors.

    Args:
        inlet: The sources.
        inputs: Keeps them in float32 from the second merge on, where there is room.
        workspace: Block buffers.
        fusion: Compiled sums.
    """

    def __init__(
        self, inlet: Inlet, inputs: InputTensors, workspace: Workspace, fusion: Fusion
    ) -> None:
        self.shape, self.work = inlet.shape, inlet.work
        self._sources = [source for _, source in inlet.sources]
        self._fusion = fusion
        self._settings = KernelSettings([model for model, _ in inlet.sources])
        self._operands = Operands(inlet, inputs)
        self._magnitudes = Magnitudes([source for _, source in inlet.sources])
        self._workspace = workspace
        self._length = inlet.shape.numel()

    @classmethod
    def of(cls, task: ExecuteMergeMethodTask, inputs: InputTensors, tools: Tools) -> Self | None:
        """See :class:`Kernel`."""
        inlet = Inlet.of(task, inputs, base=None)
        return None if inlet is None else cls(inlet, inputs, tools.workspace, tools.fusion)

    def draws(self, values: Values) -> int:
        """None."""
        return 0

    def admits(self, values: Values) -> bool:
        """Any weights."""
        return True

    def write(self, values: Values, output: OutputTensor, at: int) -> None:
        """Fills the output."""
        mix = self._settings.once(values, _Mix.of)
        output.expect(mix.amplification * self._magnitudes.largest)
        if self._fusion.fills(output, LINEAR, mix.scalars, mix.divisor, self._sources):
            return
        sources = self._operands.tensors()
        for start, stop in spans(self._length, self._workspace.block):
            result = self._workspace.row("result", stop - start)
            total = self._workspace.zeros(stop - start)
            for source, weight in zip(sources, mix.weights, strict=True):
                block = self._workspace.float32(part(source, start, stop), "cast")
                total = torch.addcmul(total, block, weight, out=result)
            if mix.divisor is not None:
                result.div_(mix.divisor)
            output.put(start, stop, result)

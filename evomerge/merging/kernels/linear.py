"""The linear method: the weighted sum of sources, in mergekit's order of roundings."""

from __future__ import annotations

import torch

from evomerge.merging.kernels.kernel import Inlet
from evomerge.merging.kernels.output import Output
from evomerge.merging.kernels.workspace import Workspace, spans
from evomerge.merging.structure import Values


class Linear:
    """One output tensor of a linear merge.

    ``addcmul`` rounds once for multiply and add, as in mergekit's kernel, which calls the
    same operation on whole tensors.
    """

    def __init__(self, inlet: Inlet, workspace: Workspace) -> None:
        self.shape, self.work = inlet.shape, inlet.work
        self._sources = inlet.sources
        self._workspace = workspace

    def draws(self, values: Values) -> int:
        """None."""
        return 0

    def admits(self, values: Values) -> bool:
        """Any weights."""
        return True

    def write(self, values: Values, output: Output, at: int) -> None:
        """Fills the output."""
        weights = torch.tensor(
            [[values.per_input[model]["weight"] for model, _ in self._sources]],
            dtype=torch.float32,
        )
        divisor = weights.sum(dim=1) if values.shared["normalize"] else None
        columns = list(weights.unbind(1))
        length = self._sources[0][1].numel()
        for start, stop in spans(length, self._workspace.block):
            result = self._workspace.row("result", stop - start).zero_()
            cast = self._workspace.row("cast", stop - start)
            for (_, source), weight in zip(self._sources, columns, strict=True):
                block = source[start:stop]
                if block.dtype != torch.float32:
                    block = cast.copy_(block)
                result.addcmul_(block, weight)
            if divisor is not None:
                result.div_(divisor)
            output.put(start, stop, result)

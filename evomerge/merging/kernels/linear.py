"""The linear method: the weighted sum of sources, in mergekit's order of roundings."""

from __future__ import annotations

import torch

from evomerge.merging.kernels.bounds import Magnitudes
from evomerge.merging.kernels.kernel import Inlet, Settings
from evomerge.merging.kernels.output import Output
from evomerge.merging.kernels.workspace import Workspace, spans
from evomerge.merging.sources import Inputs
from evomerge.merging.structure import Values


class Linear:
    """One output tensor of a linear merge.

    ``addcmul`` rounds once for multiply and add, as in mergekit's kernel, which calls the
    same operation on whole tensors.

    Args:
        inlet: The sources.
        inputs: Keeps them in float32 from the second merge on, where there is room.
        workspace: Block buffers.
    """

    def __init__(self, inlet: Inlet, inputs: Inputs, workspace: Workspace) -> None:
        self.shape, self.work = inlet.shape, inlet.work
        self._models = [model for model, _ in inlet.sources]
        self._settings = Settings(self._models)
        self._sources = [source for _, source in inlet.sources]
        self._inputs = inputs
        self._workspace = workspace
        self._magnitudes = Magnitudes(self._sources)
        self._asked = 0

    def draws(self, values: Values) -> int:
        """None."""
        return 0

    def admits(self, values: Values) -> bool:
        """Any weights."""
        return True

    def write(self, values: Values, output: Output, at: int) -> None:
        """Fills the output."""
        self._keep()
        weights = [float(settings["weight"]) for settings in self._settings.of(values)]
        row = torch.tensor(weights, dtype=torch.float32)
        divisor = row.unsqueeze(0).sum(dim=1) if values.shared["normalize"] else None
        output.expect(self._magnitudes.of_sum(weights, divisor))
        length = self._sources[0].numel()
        zeros, columns = self._workspace.zeros, row.unsqueeze(1).unbind()
        for start, stop in spans(length, self._workspace.block):
            result = self._workspace.row("result", stop - start)
            total = zeros(stop - start)
            for source, weight in zip(self._sources, columns, strict=True):
                block = self._workspace.float32(source[start:stop], "cast")
                total = torch.addcmul(total, block, weight, out=result)
            if divisor is not None:
                result.div_(divisor)
            output.put(start, stop, result)

    def _keep(self) -> None:
        """Only where a second merge shows that a copy is used again."""
        self._asked += 1
        if self._asked > 1 and any(source.dtype != torch.float32 for source in self._sources):
            kept = self._inputs.kept()
            self._sources = [kept[model].view(-1) for model in self._models]

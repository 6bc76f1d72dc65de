"""Spherical interpolation of two tensors: the angle is found once, then each merge is one pass.

The angle comes from mergekit's reductions, call by call on the same shapes: their last bits
depend on both, and on the number of threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from typing_extensions import Self

from evomerge.merging.kernels.bounds import Magnitudes, amplification
from evomerge.merging.kernels.kernel import Inlet, KernelSettings
from evomerge.merging.kernels.output import OutputTensor
from evomerge.merging.kernels.reuse import Operands
from evomerge.merging.kernels.tools import Tools
from evomerge.merging.kernels.workspace import Workspace, spans
from evomerge.merging.offload import offloaded
from evomerge.merging.sources import InputTensors
from evomerge.merging.values import Values

_CHUNK = 1 << 20  # elements that mergekit's slerp reduces at once
_EPS = 1e-8
_SMALL_NORM = 1e-7
_PARALLEL = 0.9995  # cosine above which mergekit's slerp interpolates on a line
_SMALL_TOTAL = 1e-6


class _Spherical(ABC):
    """What both methods share: the weighted sum of two flat tensors.

    Args:
        inlet: Two sources: from the first to the second.
        inputs: Keeps them in float32 from the second merge on, where there is room.
        workspace: Block buffers.
    """

    def __init__(self, inlet: Inlet, inputs: InputTensors, workspace: Workspace) -> None:
        self.shape, self.work = inlet.shape, inlet.work
        self._models = [model for model, _ in inlet.sources]
        self._pair = [tensor for _, tensor in inlet.sources]
        self._magnitudes = Magnitudes(self._pair)
        self._operands = Operands(inlet, inputs)
        self._workspace = workspace
        self._cosines: dict[int, torch.Tensor] = {}

    @abstractmethod
    def _cosine(self) -> torch.Tensor:
        """Of the angle between both."""

    def draws(self, values: Values) -> int:
        """None."""
        return 0

    def _cosine_now(self) -> torch.Tensor:
        threads = torch.get_num_threads()
        if threads not in self._cosines:
            self._cosines[threads] = self._cosine()
        return self._cosines[threads]

    def _write(
        self, first: float, second: float, divisor: torch.Tensor | None, output: OutputTensor
    ) -> None:
        output.expect(amplification([first, second], divisor) * self._magnitudes.largest)
        one, other = self._operands.tensors()
        unit = self._workspace.unit
        for start, stop in spans(one.numel(), self._workspace.block):
            total = self._workspace.row("result", stop - start)
            torch.mul(self._workspace.float32(one[start:stop], "cast"), first, out=total)
            block = self._workspace.float32(other[start:stop], "cast")
            # Multiplied by one in the same pass: the product is rounded before it is added.
            torch.addcmul(total, block, unit, value=second, out=total)
            if divisor is not None:
                total.div_(divisor)
            output.put(start, stop, total)


class Slerp(_Spherical):
    """From the base to the other model by ``t``."""

    @classmethod
    def of(cls, task: ExecuteMergeMethodTask, inputs: InputTensors, tools: Tools) -> Self | None:
        """See :class:`Kernel`."""
        inlet = Inlet.of(task, inputs, base=None)
        if inlet is None or len(inlet.sources) != 2:
            return None
        return cls(inlet.beginning_with(task.base_model), inputs, tools.workspace)

    def admits(self, values: Values) -> bool:
        """Any share."""
        return True

    def _cosine(self) -> torch.Tensor:
        pair = [tensor.view(1, -1) for tensor in self._pair]
        norms = [self._norm(tensor) for tensor in pair]
        parts = []
        for start, stop in spans(pair[0].shape[1], _CHUNK):
            one, other = (
                tensor[:, start:stop].float() / norm
                for tensor, norm in zip(pair, norms, strict=True)
            )
            parts.append((one * other).sum(dim=1, keepdim=True))
        return torch.stack(parts).sum(dim=0).clamp(-1, 1)

    @staticmethod
    def _norm(tensor: torch.Tensor) -> torch.Tensor:
        parts = [
            torch.linalg.vector_norm(tensor[:, start:stop].float(), dim=1, keepdim=True)
            for start, stop in spans(tensor.shape[1], _CHUNK)
        ]
        norm = torch.linalg.vector_norm(torch.stack(parts), dim=0)
        return torch.where(norm > _EPS, norm, 1)

    def write(self, values: Values, output: OutputTensor, at: int) -> None:
        """Fills the output."""
        cosine = self._cosine_now()
        t = torch.tensor([[values.shared["t"]]], dtype=torch.float32)
        if cosine.abs() > _PARALLEL:
            first, second = 1 - t, t
        else:
            angle = torch.acos(cosine)
            first, second = (torch.sin(x * angle) / torch.sin(angle) for x in (1 - t, t))
        self._write(float(first), float(second), None, output)


class NuSlerp(_Spherical):
    """Between two sources by their weights; the whole tensor is one vector."""

    def __init__(self, inlet: Inlet, inputs: InputTensors, workspace: Workspace) -> None:
        super().__init__(inlet, inputs, workspace)
        self._settings = KernelSettings(self._models)

    @classmethod
    def of(cls, task: ExecuteMergeMethodTask, inputs: InputTensors, tools: Tools) -> Self | None:
        """See :class:`Kernel`."""
        inlet = Inlet.of(task, inputs, base=None)
        if inlet is None or task.base_model is not None or inlet.work != torch.float32:
            return None
        return cls(inlet, inputs, tools.workspace)

    def admits(self, values: Values) -> bool:
        """Where rows are not vectors of their own."""
        return bool(values.shared["nuslerp_flatten"])

    def _cosine(self) -> torch.Tensor:
        units = []
        for tensor in self._pair:
            whole = offloaded(tensor.shape, torch.float32).copy_(tensor)
            norm = torch.norm(whole, dim=-1, keepdim=True).clamp(min=_SMALL_NORM)
            units.append(whole.div_(norm))
        return torch.sum(units[0].mul_(units[1]), dim=-1, keepdim=True).clamp(-1, 1)

    def write(self, values: Values, output: OutputTensor, at: int) -> None:
        """Fills the output."""
        cosine = self._cosine_now()
        weights = [settings["weight"] for settings in self._settings.of(values)]
        total = sum(weights)
        t = 0.5 if abs(total) < _SMALL_TOTAL else weights[1] / total
        if (1 - cosine.square()) <= _EPS**2:
            self._write(1 - t, t, None, output)
            return
        angle = torch.acos(cosine)
        first, second = torch.sin((1 - t) * angle), torch.sin(t * angle)
        self._write(float(first), float(second), torch.sin(angle), output)

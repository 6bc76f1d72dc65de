"""Multi-SLERP: the weighted mean of several directions on a sphere, pass after pass in blocks.

What mergekit does with whole tensors is done here in five passes of blocks, with its roundings:
the norms of the vectors, which no point changes; their mean and its norm; how far each vector
lies along the mean; what remains of each, and its norm; the result. The mean and what remains
are held in between where a tensor is small, and computed again where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from typing_extensions import Self

from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.kernels.kernel import Inlet, KernelSettings
from evomerge.merging.kernels.norm import Norm, norm_width
from evomerge.merging.kernels.output import OutputTensor
from evomerge.merging.kernels.reuse import Uses
from evomerge.merging.kernels.summation import row_spans, row_sums, row_width
from evomerge.merging.kernels.tools import Tools
from evomerge.merging.kernels.workspace import Workspace
from evomerge.merging.sources import InputTensors
from evomerge.merging.values import Values

_HELD = 1 << 22  # elements: two vectors of so many are held, in 32 MiB
_MAX_SOURCES = 4  # torch adds the rows of more in an order that depends on the column
_SHORT = 64  # elements: torch adds fewer in another order
_OPPOSED = "the weighted sum of the task vectors is zero; with other weights it is not"

# A block of the mean's direction: its start, its stop and the unit vectors there.
_Direction = Callable[[int, int, Sequence[torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class _Point:
    """The parameters of one merge.

    Attributes:
        weights: One per source.
        norms: Of the sources.
        eps: What is added to a norm before it divides.
    """

    weights: torch.Tensor
    norms: torch.Tensor
    eps: float


class MultiSlerp:
    """One output tensor of the method.

    Args:
        inlet: Up to four sources, with or without a base.
        workspace: Block buffers.
        budget: Keeps the vectors from the second merge on.
    """

    def __init__(self, inlet: Inlet, workspace: Workspace, budget: MemoryBudget) -> None:
        self.shape, self.work = inlet.shape, inlet.work
        self._settings = KernelSettings([model for model, _ in inlet.sources])
        self._base = inlet.base
        self._sources = [source for _, source in inlet.sources]
        self._length = self._sources[0].numel()
        self._workspace = workspace
        self._budget = budget
        self._kept: list[torch.Tensor] = []
        self._uses = Uses()
        self._norms: torch.Tensor | None = None

    @classmethod
    def of(cls, task: ExecuteMergeMethodTask, inputs: InputTensors, tools: Tools) -> Self | None:
        """See :class:`Kernel`."""
        inlet = Inlet.of(task, inputs, base=task.base_model)
        if inlet is None or not cls._suits(inlet):
            return None
        return cls(inlet, tools.workspace, tools.budget)

    @staticmethod
    def _suits(inlet: Inlet) -> bool:
        """Whether torch's reductions can be repeated here."""
        if inlet.work != torch.float32 or inlet.shape.numel() < _SHORT:
            return False
        known = norm_width() is not None and row_width() is not None
        return known and 1 <= len(inlet.sources) <= _MAX_SOURCES

    def draws(self, values: Values) -> int:
        """None."""
        return 0

    def admits(self, values: Values) -> bool:
        """Any weights."""
        return True

    def write(self, values: Values, output: OutputTensor, at: int) -> None:
        """Fills the output.

        Raises:
            ValueError: the vectors cancel each other out, as mergekit raises it.
        """
        if len(self._sources) == 1:
            self._copy(output)
            return
        self._keep()
        weights = torch.tensor([float(own["weight"]) for own in self._settings.of(values)])
        if values.shared["normalize_weights"]:
            weights = weights / weights.sum()
        if self._norms is None:
            self._norms = self._found_norms()
        point = _Point(weights, self._norms, values.shared["eps"])
        mean = _Vector(self._length, "mean", self._workspace)
        for start, stop in self._steps():
            mean.put(start, self._mean(self._units(start, stop, point), point))
        mean_norm = mean.norm()
        if mean_norm < point.eps:
            self._mix(weights, output)
            return
        self._project(point, mean, mean_norm, output)

    def _copy(self, output: OutputTensor) -> None:
        for start, stop in self._steps():
            block = self._workspace.float32(self._sources[0][start:stop], "result")
            output.put(start, stop, block)

    def _mix(self, weights: torch.Tensor, output: OutputTensor) -> None:
        """On a line, where there is no direction to go in."""
        if len(self._sources) > 2:
            raise ValueError(_OPPOSED)
        for start, stop in self._steps():
            one, other = self._vectors(start, stop)
            mixed = torch.mul(one, weights[0], out=self._workspace.row("result", stop - start))
            product = torch.mul(other, weights[1], out=self._workspace.row("sum", stop - start))
            self._put(start, stop, mixed.add_(product), output)

    def _project(
        self, point: _Point, mean: _Vector, mean_norm: torch.Tensor, output: OutputTensor
    ) -> None:
        def direction(start: int, stop: int, units: Sequence[torch.Tensor]) -> torch.Tensor:
            held = mean.read(start, stop)
            return self._mean(units, point).div_(mean_norm) if held is None else held

        mean.divide(mean_norm)
        dots = self._dots(point, direction)
        tangent = _Vector(self._length, "tangent", self._workspace)
        for start, stop in self._steps():
            units = self._units(start, stop, point)
            ahead = direction(start, stop, units)
            tangent.put(start, self._tangent(units, point, ahead, dots))
        length = tangent.norm() + point.eps
        along, across = torch.cos(length), torch.sin(length) / length
        average = (point.norms * point.weights).sum()
        for start, stop in self._steps():
            beside = tangent.read(start, stop)
            units = self._units(start, stop, point) if beside is None else []
            ahead = direction(start, stop, units)
            if beside is None:
                beside = self._tangent(units, point, ahead, dots)
            result = torch.mul(ahead, along, out=self._workspace.row("result", stop - start))
            product = torch.mul(beside, across, out=self._workspace.row("sum", stop - start))
            self._put(start, stop, result.add_(product).mul_(average), output)

    def _put(self, start: int, stop: int, result: torch.Tensor, output: OutputTensor) -> None:
        if self._base is not None:
            result.add_(self._workspace.float32(self._base[start:stop], "base"))
        output.put(start, stop, result)

    def _steps(self) -> Sequence[tuple[int, int]]:
        return row_spans(self._length, self._workspace.block)

    def _vectors(self, start: int, stop: int) -> list[torch.Tensor]:
        """Blocks of the sources minus the base; not to be changed."""
        if self._kept:
            return [kept[start:stop] for kept in self._kept]
        row = self._workspace.row
        found = []
        for index, source in enumerate(self._sources):
            block = self._workspace.float32(source[start:stop], f"vector {index}")
            if self._base is not None:
                base = self._workspace.float32(self._base[start:stop], "base")
                block = torch.sub(block, base, out=row(f"vector {index}", stop - start))
            found.append(block)
        return found

    def _units(self, start: int, stop: int, point: _Point) -> list[torch.Tensor]:
        row = self._workspace.row
        return [
            torch.div(block, divisor, out=row(f"vector {index}", stop - start))
            for index, (block, divisor) in enumerate(
                zip(self._vectors(start, stop), point.norms + point.eps, strict=True)
            )
        ]

    def _summed(self, blocks: Sequence[torch.Tensor], point: _Point, name: str) -> torch.Tensor:
        """The weighted sum, in the buffer of this name."""
        out = self._workspace.row(name, len(blocks[0]))
        total = self._workspace.zeros(len(blocks[0]))
        for block, weight in zip(blocks, point.weights, strict=True):
            total = torch.addcmul(total, block, self._workspace.unit, value=float(weight), out=out)
        return out

    def _mean(self, units: Sequence[torch.Tensor], point: _Point) -> torch.Tensor:
        return self._summed(units, point, "ahead")

    def _tangent(
        self, units: Sequence[torch.Tensor], point: _Point, ahead: torch.Tensor, dots: torch.Tensor
    ) -> torch.Tensor:
        """What of the units, which are overwritten, does not lie along the mean."""
        shadow = self._workspace.row("shadow", len(ahead))
        for unit, dot in zip(units, dots, strict=True):
            unit.sub_(torch.mul(ahead, dot, out=shadow))
        return self._summed(units, point, "beside")

    def _dots(self, point: _Point, direction: _Direction) -> torch.Tensor:
        """How far each unit vector lies along the mean."""
        sums = row_sums(len(self._sources), self._length)
        for start, stop in self._steps():
            units = self._units(start, stop, point)
            ahead = direction(start, stop, units)
            for unit, total in zip(units, sums, strict=True):
                total.add(unit.mul_(ahead))
        return torch.stack([total.total() for total in sums])

    def _found_norms(self) -> torch.Tensor:
        norms = [Norm(norm_width() or 0) for _ in self._sources]
        for start, stop in self._steps():
            for block, norm in zip(self._vectors(start, stop), norms, strict=True):
                norm.add(block)
        return torch.stack([norm.total() for norm in norms])

    def _keep(self) -> None:
        raw = self._base is None and all(t.dtype == torch.float32 for t in self._sources)
        if not self._uses.again() or self._kept or raw:
            return
        if self._budget.grants(self, 4 * self._length * len(self._sources)):
            kept = [torch.empty(self._length) for _ in self._sources]
            for start, stop in self._steps():
                for home, block in zip(kept, self._vectors(start, stop), strict=True):
                    home[start:stop] = block
            self._kept = kept


class _Vector:
    """A vector that comes block by block, held where it is short.

    Args:
        length: Elements.
        name: Of its buffer.
        workspace: Where it is held.
    """

    def __init__(self, length: int, name: str, workspace: Workspace) -> None:
        self._held = workspace.row(name, length) if length <= _HELD else None
        self._norm = Norm(norm_width() or 0)

    def put(self, start: int, block: torch.Tensor) -> None:
        """Takes the next block."""
        if self._held is None:
            self._norm.add(block)
        else:
            self._held[start : start + len(block)] = block

    def norm(self) -> torch.Tensor:
        """Once all blocks are in."""
        return self._norm.total() if self._held is None else torch.norm(self._held)

    def divide(self, divisor: torch.Tensor) -> None:
        """What is held."""
        if self._held is not None:
            self._held.div_(divisor)

    def read(self, start: int, stop: int) -> torch.Tensor | None:
        """A block of what is held; not to be changed."""
        return None if self._held is None else self._held[start:stop]

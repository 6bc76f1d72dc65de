"""SCE: entries that vary most between the sources, weighted by energy, of the majority's sign.

Which entries vary most does not depend on the point; how many of them count does. Their last one
is found by counting, the others of its variance as ``topk`` takes them. A share so small that
``topk`` takes them from a heap is left to ``topk``, in temporary files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from typing_extensions import Self

from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.kernels.kernel import Inlet
from evomerge.merging.kernels.output import OutputTensor
from evomerge.merging.kernels.reuse import Uses
from evomerge.merging.kernels.selection import NONE, First, first, keys_of
from evomerge.merging.kernels.summation import row_spans, row_sums, row_width
from evomerge.merging.kernels.tools import Tools
from evomerge.merging.kernels.workspace import Workspace
from evomerge.merging.offload import offloaded
from evomerge.merging.sources import InputTensors
from evomerge.merging.values import Values

_MAX_SOURCES = 4  # torch adds the rows of more in an order that depends on the column
_SHORT = 64  # elements: torch adds fewer in another order
_HEAPED = 64  # torch's topk takes a share smaller than one in so many from a heap
_SMALL_SUM = 1e-6
_SMALL_WEIGHT = 1e-6


class Sce:
    """One output tensor of the method.

    Args:
        inlet: A base and up to four sources.
        workspace: Block buffers.
        budget: Keeps the task vectors and their variances from the second merge on.
    """

    def __init__(self, inlet: Inlet, workspace: Workspace, budget: MemoryBudget) -> None:
        self.shape, self.work = inlet.shape, inlet.work
        assert inlet.base is not None
        self._base = inlet.base
        self._sources = [source for _, source in inlet.sources]
        self._length = self._base.numel()
        self._workspace = workspace
        self._budget = budget
        self._kept: list[torch.Tensor] = []
        self._variances: torch.Tensor | None = None
        self._n_varying: int | None = None
        self._uses = Uses()

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
        if inlet.base is None or inlet.work != torch.float32 or inlet.shape.numel() < _SHORT:
            return False
        return row_width() is not None and 1 < len(inlet.sources) <= _MAX_SOURCES

    def draws(self, values: Values) -> int:
        """None."""
        return 0

    def admits(self, values: Values) -> bool:
        """Any share."""
        return True

    def write(self, values: Values, output: OutputTensor, at: int) -> None:
        """Fills the output."""
        self._keep()
        chosen = self._chosen(values.shared["select_topk"])
        weights = self._weights(chosen)
        for start, stop in self._steps():
            merged = self._agreed(self._selected(start, stop, chosen), weights)
            base = self._workspace.float32(self._base[start:stop], "base")
            output.put(start, stop, torch.add(base, merged, out=merged))

    def _chosen(self, share: float) -> First | None:
        """The entries that vary most; None: all."""
        if share >= 1:
            return None
        if share <= 0:
            return NONE
        if self._n_varying is None:
            blocks = (self._variance(start, stop) for start, stop in self._steps())
            self._n_varying = sum(int(torch.count_nonzero(block)) for block in blocks)
        n_first = int(torch.tensor(self._n_varying) * share)  # in float32, as mergekit has it
        if n_first == 0:
            return NONE
        if n_first * _HEAPED > self._length:
            found = first(self._length, n_first, self._keys, by_topk=True)
            if found is not None:
                return found
        return self._taken(n_first)

    def _taken(self, n_first: int) -> First:
        """By torch itself, of all variances at once."""
        variances = offloaded((self._length,), torch.float32)
        for start, stop in self._steps():
            variances[start:stop] = self._variance(start, stop)
        return First.of(torch.topk(variances, n_first).indices, self._length)

    def _keys(self, start: int, stop: int) -> torch.Tensor:
        return keys_of(self._variance(start, stop), descending=True)

    def _vectors(self, start: int, stop: int) -> list[torch.Tensor]:
        """Blocks of the task vectors; not to be changed."""
        if self._kept:
            return [kept[start:stop] for kept in self._kept]
        base = self._workspace.float32(self._base[start:stop], "base")
        found = []
        for index, source in enumerate(self._sources):
            own = self._workspace.row(f"vector {index}", stop - start)
            block = self._workspace.float32(source[start:stop], f"vector {index}")
            found.append(torch.sub(block, base, out=own))
        return found

    def _variance(self, start: int, stop: int) -> torch.Tensor:
        """In a buffer: by the running mean of Welford, in float64 as torch has it."""
        out = self._workspace.row("variance", stop - start)
        if self._variances is not None:
            return out.copy_(self._variances[start:stop])
        rows = [
            self._workspace.row(name, stop - start, torch.float64)
            for name in ("mean", "spread", "distance", "other")
        ]
        mean, spread, distance, other = rows
        mean.zero_()
        spread.zero_()
        for index, block in enumerate(self._vectors(start, stop)):
            torch.sub(block, mean, out=distance)
            mean.add_(torch.div(distance, index + 1, out=other))
            torch.sub(block, mean, out=other)
            spread.add_(distance.mul_(other))
        return out.copy_(spread.div_(len(self._sources)))

    def _selected(self, start: int, stop: int, chosen: First | None) -> list[torch.Tensor]:
        """Blocks of the task vectors, zeros where an entry is not chosen."""
        if chosen is None:
            return self._vectors(start, stop)
        length = stop - start
        kept = self._workspace.row("kept", length)
        if chosen is NONE:
            kept.zero_()
        else:
            among = self._workspace.row("among", length, torch.bool)
            kept.copy_(chosen.among(self._keys(start, stop), start, among))
        return [
            torch.mul(vector, kept, out=self._workspace.row(f"vector {index}", length))
            for index, vector in enumerate(self._vectors(start, stop))
        ]

    def _weights(self, chosen: First | None) -> torch.Tensor:
        """The share of each task vector in the energy of all."""
        sums = row_sums(len(self._sources), self._length)
        for start, stop in self._steps():
            for vector, total in zip(self._selected(start, stop, chosen), sums, strict=True):
                own = self._workspace.row("square", stop - start)
                total.add(torch.square(vector, out=own))
        energies = torch.stack([total.total() for total in sums]) / self._length
        energy = torch.sum(energies).item()
        if abs(energy) < _SMALL_SUM:
            return torch.ones_like(energies) / len(energies)
        return energies / energy

    def _agreed(self, rows: Sequence[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """The weighted mean of the entries that have the sign of the sum of all."""
        length = len(rows[0])
        row = self._workspace.row
        zeros = total = self._workspace.zeros(length)
        majority, agrees, sign = row("majority", length), row("agrees", length), row("sign", length)
        for vector in rows:
            total = torch.add(total, vector, out=majority)
        torch.ge(majority, 0, out=majority)
        majority.mul_(2).sub_(1)
        merged, divisor = row("mixed", length), row("sum", length)
        total, total_weight = zeros, zeros
        for vector, weight in zip(rows, weights, strict=True):
            torch.eq(torch.sign(vector, out=sign), majority, out=agrees)
            agrees.mul_(weight)
            total_weight = torch.add(total_weight, agrees, out=divisor)
            total = torch.add(total, agrees.mul_(vector), out=merged)
        return merged.div_(divisor.clamp_(min=_SMALL_WEIGHT))

    def _steps(self) -> list[tuple[int, int]]:
        return row_spans(self._length, self._workspace.block)

    def _keep(self) -> None:
        if not self._uses.again() or self._kept:
            return
        if self._budget.grants(self, 4 * self._length * (len(self._sources) + 1)):
            kept = [torch.empty(self._length) for _ in self._sources]
            variances = torch.empty(self._length)
            for start, stop in self._steps():
                variances[start:stop] = self._variance(start, stop)
                for home, block in zip(kept, self._vectors(start, stop), strict=True):
                    home[start:stop] = block
            self._kept, self._variances = kept, variances

"""Sums of tensors that are never in memory as a whole, to the last bit of ``torch.sum``.

torch adds the float32 numbers of one thread in lanes: an entry belongs to the lane of its place
modulo four vectors of the processor. Within a lane it adds runs of ``2 ** power`` entries, then
runs of such sums, then runs of those, then the rest. Each thread has a part of the tensor; the
sums of the parts are added at the end. All of that is repeated here, block by block; whether it
is what the installed torch does is tried out once per number of threads.

Source: PyTorch, ``aten/src/ATen/native/cpu/SumKernel.cpp`` (cascade summation) and
``TensorIteratorReduce.cpp`` (two passes).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from evomerge.merging.kernels.workspace import Workspace, spans

_GRAIN = 1 << 15  # elements: fewer are summed by one thread
_UNROLLED = 4  # vectors that torch adds side by side
_LEVELS = 4
_WIDTHS = (4, 8, 16, 32)  # numbers in a vector, of all processors that torch knows
# Elements, by one thread and by several; so many, because rounding may hide a wrong order.
_TRIED = (*range(_GRAIN // 4, _GRAIN // 2, 511), *range(9 * _GRAIN, 16 * _GRAIN, 65_111))
_READ = 1 << 18  # elements asked for at a time, at least

Read = Callable[[int, int], torch.Tensor]  # entries from start to stop; used before the next call


def blockwise_sum(length: int, read: Read) -> torch.Tensor | None:
    """``torch.sum`` of a contiguous float32 tensor of which only blocks are at hand.

    Args:
        length: Of the tensor.
        read: Gives its entries; asked for each once, in order.

    Returns:
        A scalar; None where the installed torch sums in another order.
    """
    n_threads = torch.get_num_threads()
    width = _width(n_threads)
    return None if width is None else _sum(length, read, n_threads, width)


@cache
def _width(n_threads: int) -> int | None:
    """The width of vectors with which torch's own sums come out."""
    return _width_of(torch.sum, n_threads)


@cache
def row_width() -> int | None:
    """The same for the rows of a matrix, each of which one thread adds; None: with none."""
    return _width_of(lambda trial: torch.stack([trial, trial]).sum(dim=1)[0], 1)


def _width_of(torchs: Callable[[torch.Tensor], torch.Tensor], n_threads: int) -> int | None:
    generator = torch.Generator().manual_seed(0)
    trials = [torch.empty(length).exponential_(generator=generator) for length in _TRIED]
    for width in _WIDTHS:
        ours = [_sum(len(t), lambda a, b, t=t: t[a:b], n_threads, width) for t in trials]  # type: ignore[misc]  # mypy infers no lambda with a default
        if all(torch.equal(one, torchs(trial)) for one, trial in zip(ours, trials, strict=True)):
            return width
    return None


def _sum(length: int, read: Read, n_threads: int, width: int) -> torch.Tensor:
    if n_threads == 1 or length < _GRAIN:
        return _sum_of_part(0, length, read, width)
    n_parts = min(n_threads, -(-length // _GRAIN))
    sums = torch.zeros(n_threads)
    for i, (start, stop) in enumerate(spans(length, -(-length // n_parts))):
        sums[i] = _sum_of_part(start, stop, read, width)
    return sums.sum()


def _sum_of_part(start: int, stop: int, read: Read, width: int) -> torch.Tensor:
    """What one thread adds."""
    if stop - start < width:
        return read(start, stop).sum()
    total = RowSum(stop - start, width)
    for low, high in spans(stop - start, -(-_READ // total.unit) * total.unit):
        total.add(read(start + low, start + high))
    return total.total()


def row_sums(n_rows: int, length: int) -> list[RowSum]:
    """A sum for each row of a matrix of that many columns.

    Raises:
        RuntimeError: the installed torch adds in another order (``row_width``).
    """
    width = row_width()
    if width is None:
        raise RuntimeError("torch adds the rows of a matrix in an unknown order")
    return [RowSum(length, width) for _ in range(n_rows)]


def row_spans(length: int, block: int) -> list[tuple[int, int]]:
    """Starts and stops of blocks of about that size, which ``RowSum`` takes."""
    unit = row_sums(1, length)[0].unit
    return list(spans(length, -(-block // unit) * unit))


class RowSum:
    """The sum of entries that one thread of torch adds, as of each row of a matrix.

    Args:
        length: How many, at least one vector.
        width: Numbers in a vector.

    Attributes:
        unit: Entries are added in multiples of so many, but for the last ones.
    """

    def __init__(self, length: int, width: int) -> None:
        self._width = width
        self._lanes = _UNROLLED * width
        n_rows = length // self._lanes
        self._cascade = _Cascade(n_rows, self._lanes)
        self.unit = self._lanes * self._cascade.run**2
        self._n_left = n_rows * self._lanes
        self._rest = torch.empty(0)

    def add(self, entries: torch.Tensor) -> None:
        """Adds the next entries."""
        n_whole = min(len(entries), self._n_left)
        if n_whole:
            self._cascade.add(entries[:n_whole].view(-1, self._lanes))
            self._n_left -= n_whole
        if n_whole < len(entries):
            self._rest = entries[n_whole:].clone()

    def total(self) -> torch.Tensor:
        """The sum, once all entries are added."""
        total = self._cascade.total().view(_UNROLLED, self._width)
        n_vectors = len(self._rest) // self._width
        for vector in self._rest[: n_vectors * self._width].view(-1, self._width):
            total[0] += vector
        for other in total[1:]:
            total[0] += other
        return _in_turn(torch.cat([self._rest[n_vectors * self._width :], total[0]]))


class Blocks:
    """Entries that come in blocks of one length, to be read from any place to any other.

    Args:
        length: Of all.
        step: Of a block; the last one is shorter.
        make: Gives a block; used before the next call.
        workspace: For what is read.
    """

    def __init__(self, length: int, step: int, make: Read, workspace: Workspace) -> None:
        self._length, self._step, self._make = length, step, make
        self._workspace = workspace
        self._start, self._block = 0, torch.empty(0)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """The entries from ``start`` to ``stop``; never before those read last."""
        found = self._workspace.row("read", stop - start)
        at = start
        while at < stop:
            if at >= self._start + len(self._block):
                self._start = at // self._step * self._step
                self._block = self._make(self._start, min(self._start + self._step, self._length))
            high = min(stop, self._start + len(self._block))
            found[at - start : high - start] = self._block[at - self._start : high - self._start]
            at = high
        return found


def _in_turn(numbers: torch.Tensor) -> torch.Tensor:
    """One after the other."""
    total = torch.zeros(())
    for number in numbers:
        total += number
    return total


class _Cascade:
    """Sums of columns, added in runs.

    Args:
        n_rows: That will be added.
        n_columns: Of each.

    Attributes:
        run: Rows of a run, and runs of a run of runs.
    """

    def __init__(self, n_rows: int, n_columns: int) -> None:
        power = max(4, max(0, n_rows - 1).bit_length() // _LEVELS)
        self.run = 1 << power
        self._sums = torch.zeros(_LEVELS, n_columns)
        self._n_added = 0

    def add(self, rows: torch.Tensor) -> None:
        """Adds rows; but for the last ones, their number is a multiple of ``run ** 2``."""
        n_runs = len(rows) // self.run
        runs = self._runs(rows[: n_runs * self.run])
        n_groups = n_runs // self.run
        for group in self._runs(runs[: n_groups * self.run]):
            self._sums[2] += group
            self._n_added += 1
            if self._n_added % self.run == 0:
                self._sums[3] += self._sums[2]
                self._sums[2].zero_()
        for run in runs[n_groups * self.run :]:
            self._sums[1] += run
        for row in rows[n_runs * self.run :]:
            self._sums[0] += row

    def total(self) -> torch.Tensor:
        """The sum of every column."""
        total = self._sums[0]
        for level in self._sums[1:]:
            total = total + level
        return total

    def _runs(self, rows: torch.Tensor) -> torch.Tensor:
        """The sums of consecutive runs, each added row by row."""
        runs = rows.view(-1, self.run, rows.shape[1])
        total = torch.zeros(len(runs), rows.shape[1])
        for i in range(self.run):
            total += runs[:, i]
        return total

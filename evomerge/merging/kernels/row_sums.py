"""The sum of a few rows, column by column, to the last bit of ``torch.sum(dim=0)``.

torch adds most columns row after row. The last columns of the part of each thread, fewer than four
vectors of the processor, it adds in four lanes: a row belongs to the lane of its place modulo
four, and the lanes are added at the end. With up to four rows both are the same. Whether that is
what the installed torch does is tried out once per number of rows and of threads.

Source: PyTorch, ``aten/src/ATen/native/cpu/SumKernel.cpp`` (outer sums) and
``TensorIteratorReduce.cpp`` (parts of the threads).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import torch

from evomerge.merging.kernels.workspace import spans

_MAX_ROWS = 15  # above, torch adds runs of sixteen rows
_GRAIN = 1 << 15  # entries: fewer are added by one thread
_LANES = 4
_ALIGNED = 32  # columns of 128 bytes, which threads do not share
_WIDTHS = (4, 8, 16, 32)  # numbers in a vector, of all processors that torch knows
_TRIED = (2, 3, 6, 7, 15, 29, 33, 64, 95, 127, 999, 4097, 10_011, 40_021, 65_567)  # columns


def max_rows(length: int) -> int:
    """How many rows of so many columns ``lane_columns`` knows; a single column is a whole sum."""
    return _MAX_ROWS if length > 1 else _LANES


def adds_as_known(n_rows: int) -> bool:
    """Whether the installed torch adds so many rows as ``lane_columns`` says."""
    return n_rows <= _LANES or _width(n_rows, torch.get_num_threads()) is not None


def lane_columns(length: int, n_rows: int) -> tuple[tuple[int, int], ...]:
    """Starts and stops of the columns that are added in lanes; the others row after row.

    Args:
        length: Columns.
        n_rows: Up to ``max_rows``, of which torch ``adds_as_known``.
    """
    if n_rows <= _LANES:
        return ()
    n_threads = torch.get_num_threads()
    width = _width(n_rows, n_threads)
    return () if width is None else _columns(length, n_rows, n_threads, width)


def sum_in_lanes(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of each column of some rows, added in lanes."""
    n_whole = len(rows) // _LANES * _LANES
    lanes = torch.zeros(_LANES, len(rows[0]))
    for index, row in enumerate(rows):
        lanes[index % _LANES if index < n_whole else 0] += row
    for lane in lanes[1:]:
        lanes[0] += lane
    return lanes[0]


@lru_cache(maxsize=1024)
def _columns(length: int, n_rows: int, n_threads: int, width: int) -> tuple[tuple[int, int], ...]:
    if length < width:  # no vectors: four columns side by side
        return ((length // _LANES * _LANES, length),) if length % _LANES else ()
    found = []
    for start, stop in _parts(length, n_rows, n_threads):
        rest = (stop - start) % (_LANES * width)
        if rest:
            found.append((stop - rest, stop))
    return tuple(found)


def _parts(length: int, n_rows: int, n_threads: int) -> list[tuple[int, int]]:
    """The columns of each thread."""
    if n_threads == 1 or n_rows * length < _GRAIN:
        return [(0, length)]
    parts = []
    for start, stop in spans(length, -(-length // n_threads)):
        start -= start % _ALIGNED
        stop -= stop % _ALIGNED if stop < length else 0
        if start < stop:
            parts.append((start, stop))
    return parts


@cache
def _width(n_rows: int, n_threads: int) -> int | None:
    """The width of vectors with which torch's own sums come out."""
    generator = torch.Generator().manual_seed(0)
    trials = [torch.randn(n_rows, n, generator=generator) for n in _TRIED]
    sums = [trial.sum(dim=0) for trial in trials]
    for width in _WIDTHS:
        ours = [_sum(trial, n_threads, width) for trial in trials]
        if all(torch.equal(one, other) for one, other in zip(ours, sums, strict=True)):
            return width
    return None


def _sum(rows: torch.Tensor, n_threads: int, width: int) -> torch.Tensor:
    n_rows, length = rows.shape
    total = torch.zeros(length)
    for row in rows:
        total += row
    for start, stop in _columns(length, n_rows, n_threads, width):
        total[start:stop] = sum_in_lanes(list(rows[:, start:stop]))
    return total

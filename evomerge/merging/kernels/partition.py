"""One partition of ``std::sort``, looked at without moving an entry.

Source: libstdc++, ``bits/stl_algo.h`` (``__unguarded_partition``, ``__move_median_to_first``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evomerge.merging.kernels.workspace import spans

_CELL = 1 << 13  # entries between which stops are counted
READ = 1 << 17  # entries worth reading at a time

# The key above, the place in the tensor below. So one comparison with ``key << 32`` compares
# keys, and what is exchanged is one number. numpy finds and takes ten times as fast as torch.
Entries = NDArray[np.int64]
Stops = NDArray[np.bool_]
Read = Callable[[int, int], Entries]


class Split:
    """One partition of a range of entries, none of which is moved.

    Entries not below the pivot stop the way from the left, those not above it the way from the
    right; the first of the ones is exchanged with the first of the others, and so on.

    Args:
        read: The entries.
        low: The first place of the range.
        high: The place after its last one.

    Attributes:
        pivot: The key.
        cut: The first place of the right part.
    """

    def __init__(self, read: Read, low: int, high: int) -> None:
        self._parent = read
        self._low, self._high = low, high
        self._swap_median()
        self._at_least, self._at_most = self.pivot << 32, (self.pivot + 1) << 32
        self._count()
        self._n_swaps = self._crossing()
        ends = [self._place(self._n_swaps, self._from_left, self._is_left_stop)]
        if self._n_swaps:
            swapped = self._from_right[0] - self._n_swaps
            ends.append(self._place(swapped, self._rights, self._is_right_stop))
        self.cut = min(ends)

    def _swap_median(self) -> None:
        """Exchanges the first entry with the median of three others."""
        places = (self._low + 1, (self._low + self._high) // 2, self._high - 1)
        three = [int(self._parent(place, place + 1)[0]) for place in places]
        a, b, c = (entry >> 32 for entry in three)
        which = _median(a, b, c)
        first_one = int(self._parent(self._low, self._low + 1)[0])
        self._exchanged = ((self._low, three[which]), (places[which], first_one))
        self.pivot = (a, b, c)[which]

    def _read(self, start: int, stop: int) -> Entries:
        entries = self._parent(start, stop)
        for place, entry in self._exchanged:
            if start <= place < stop:
                entries = entries.copy()
                entries[place - start] = entry
        return entries

    def _is_left_stop(self, entries: Entries, start: int) -> Stops:
        stops: Stops = entries >= self._at_least
        stops[: max(0, self._low + 1 - start)] = False
        return stops

    def _is_right_stop(self, entries: Entries, start: int) -> Stops:
        stops: Stops = entries < self._at_most
        stops[: max(0, self._low + 1 - start)] = False
        return stops

    def _count(self) -> None:
        """Stops before and from every cell on."""
        n_cells = -(-(self._high - self._low) // _CELL)
        lefts, rights = np.zeros((2, n_cells), dtype=np.int64)
        for start, stop in spans(self._high - self._low, READ):
            entries = self._read(self._low + start, self._low + stop)
            cells = slice(start // _CELL, -(-stop // _CELL))
            lefts[cells] = _per_cell(self._is_left_stop(entries, self._low + start))
            rights[cells] = _per_cell(self._is_right_stop(entries, self._low + start))
        self._from_left = np.cumsum(np.insert(lefts, 0, 0))
        self._rights = np.cumsum(np.insert(rights, 0, 0))
        self._from_right = self._rights[-1] - self._rights

    def _cell(self, index: int) -> tuple[int, int]:
        start = self._low + index * _CELL
        return start, min(start + _CELL, self._high)

    def _crossing(self) -> int:
        """How many exchanges: most stops that lie left of a place and others right of it."""
        crossed = int(np.argmax(self._from_left >= self._from_right))
        best = int(min(self._from_left[crossed], self._from_right[crossed]))
        if crossed == 0:
            return best
        start, stop = self._cell(crossed - 1)
        entries = self._read(start, stop)
        lefts = np.cumsum(self._is_left_stop(entries, start))[:-1] + self._from_left[crossed - 1]
        rights = np.cumsum(self._is_right_stop(entries, start)[::-1])[-2::-1]
        both = np.minimum(lefts, rights + self._from_right[crossed])
        return int(both.max(initial=best))

    def _place(
        self,
        n_before: int,
        counts: NDArray[np.int64],
        is_stop: Callable[[Entries, int], Stops],
    ) -> int:
        """Of the stop with so many before it; the end of the range if there is none."""
        if n_before >= counts[-1]:
            return self._high
        cell = int(np.searchsorted(counts, n_before, side="right")) - 1
        start, stop = self._cell(cell)
        inside = np.flatnonzero(is_stop(self._read(start, stop), start))
        return start + int(inside[n_before - counts[cell]])

    def left(self, start: int, stop: int) -> Entries:
        """Entries of the left part after the partition."""
        cell = (start - self._low) // _CELL
        aligned = self._low + cell * _CELL
        entries = self._read(aligned, stop)
        stops = np.flatnonzero(self._is_left_stop(entries, aligned))
        before = int(self._from_left[cell])
        entries = entries.copy()
        entries[stops] = self._right_stops(before, before + len(stops))
        tail: Entries = entries[start - aligned :]
        return tail

    def right(self, start: int, stop: int) -> Entries:
        """Entries of the right part after the partition."""
        cell = -(-(stop - self._low) // _CELL)
        aligned = min(self._low + cell * _CELL, self._high)
        entries = self._read(start, aligned)
        before = int(self._from_right[cell])
        if before < self._n_swaps:
            stops = np.flatnonzero(self._is_right_stop(entries, start))
            stops = stops[max(0, len(stops) - (self._n_swaps - before)) :]
            entries = entries.copy()
            entries[stops] = self._left_stops(before, before + len(stops))[::-1]
        return entries[: stop - start]

    def _left_stops(self, start: int, stop: int) -> Entries:
        """The stops of these numbers, counted from the left."""
        if start == stop:
            return np.empty(0, dtype=np.int64)
        first_cell = int(np.searchsorted(self._from_left, start, side="right")) - 1
        last_cell = int(np.searchsorted(self._from_left, stop)) - 1
        low, high = self._cell(first_cell)[0], self._cell(last_cell)[1]
        entries = self._read(low, high)
        found = np.compress(self._is_left_stop(entries, low), entries)
        before = int(self._from_left[first_cell])
        return found[start - before : stop - before]

    def _right_stops(self, start: int, stop: int) -> Entries:
        """The stops of these numbers, counted from the right."""
        if start == stop:
            return np.empty(0, dtype=np.int64)
        n_all = int(self._rights[-1])
        first_cell = int(np.searchsorted(self._rights, n_all - stop, side="right")) - 1
        last_cell = int(np.searchsorted(self._rights, n_all - start)) - 1
        low, high = self._cell(first_cell)[0], self._cell(last_cell)[1]
        entries = self._read(low, high)
        found = np.compress(self._is_right_stop(entries, low), entries)[::-1]
        before = n_all - int(self._rights[last_cell + 1])
        return found[start - before : stop - before]


def _median(a: int, b: int, c: int) -> int:
    """Which of three is in the middle."""
    if a < b:
        return 1 if b < c else 2 if a < c else 0
    return 0 if a < c else 2 if b < c else 1


def _per_cell(stops: Stops) -> NDArray[np.int64]:
    """How many are set in every cell."""
    return np.add.reduceat(stops, range(0, len(stops), _CELL), dtype=np.int64)

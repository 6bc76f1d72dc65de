"""Which entries come first where torch sorts, found without sorting.

The threshold is found by counting. Of the entries that equal it, torch's sort puts first those
that its partitions happen to leave in front: it is the ``std::sort`` of the C++ library, which
partitions by the median of three and goes on in both parts. Only the part in which the last
of the first ones lies matters, so only that one is followed: as a range of entries that are
read through the exchanges of all partitions so far, and held as soon as it is small. ``topk``
goes the same way. Whether it is the way of the installed torch is tried out once.

Source: libstdc++, ``bits/stl_algo.h`` (``__introsort_loop``, ``__introselect``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from evomerge.merging.kernels.partition import READ, Entries, Read, Split
from evomerge.merging.kernels.workspace import spans
from evomerge.merging.offload import offloaded

_HELD = 1 << 21  # entries: a range of so many is held, in 16 MiB
_SORTED = 16  # entries: std::sort leaves parts of so many to a stable sort
_SELECTED = 3  # and so does std::nth_element
_LOW_BITS = 16
_PLACE = (1 << 32) - 1
_NAN = 0x7F800001  # every NaN is one key, above infinity's

Keys = Callable[[int, int], torch.Tensor]  # int32, from start to stop; used before the next call


def keys_of(magnitudes: torch.Tensor, *, descending: bool) -> torch.Tensor:
    """Integers in the order of the magnitudes, which are overwritten."""
    keys = magnitudes.view(torch.int32).clamp_(max=_NAN)
    return keys.neg_() if descending else keys


@dataclass(frozen=True)
class First:
    """The entries that come first.

    Attributes:
        threshold: The key of the last of them.
        marks: One bit for each entry, set for those of them that equal the threshold; None: all
            that equal it are among them, or are zeros, which nobody misses.
    """

    threshold: int
    marks: torch.Tensor | None

    @classmethod
    def of(cls, places: torch.Tensor, length: int) -> First:
        """Those at the given places, each named once."""
        return cls(NONE.threshold, _set(_marks(length), places))

    def among(self, keys: torch.Tensor, start: int, out: torch.Tensor) -> torch.Tensor:
        """Which entries of a block are among them.

        Args:
            keys: Of the block.
            start: Place of its first entry.
            out: Of type bool, overwritten and returned.
        """
        if self.marks is None:
            return torch.le(keys, self.threshold, out=out)
        torch.lt(keys, self.threshold, out=out)
        packed = self.marks[start // 8 : -(-(start + len(keys)) // 8)].numpy()
        marks = np.unpackbits(packed, bitorder="little")[start % 8 :][: len(keys)]
        return out.logical_or_(torch.from_numpy(marks))


NONE = First(-(1 << 31), None)  # of all entries


def first(length: int, n_first: int, keys: Keys, *, by_topk: bool = False) -> First | None:
    """The first entries in the ascending order of their keys.

    Args:
        length: Entries.
        n_first: How many of them, in [1, length].
        keys: Their keys.
        by_topk: As torch's ``topk`` takes them, for more than a sixty-fourth of all.

    Returns:
        None where the installed torch goes another way.
    """
    threshold, n_equal_wanted, n_equal = _threshold(length, n_first, keys)
    if n_equal == n_equal_wanted or threshold == 0:
        return First(threshold, None)
    if not is_followed(by_topk):
        return None
    marks = _followed(length, n_first, keys, threshold, _SELECTED if by_topk else _SORTED)
    return None if marks is None else First(threshold, marks)


def _marks(length: int) -> torch.Tensor:
    """No bit is set."""
    return offloaded((-(-length // 8),), torch.uint8).zero_()


def _set(marks: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The marks, set at these places, where none was."""
    return marks.index_add_(0, places >> 3, (1 << (places & 7)).to(torch.uint8))


@cache
def is_followed(by_topk: bool) -> bool:
    """Whether torch's own results come out."""
    few = _SELECTED if by_topk else _SORTED
    generator = torch.Generator().manual_seed(0)
    for length, n_values in ((9, 2), (100, 3), (1000, 30), (5000, 2000), (40_000, 100)):
        values = torch.randint(1, n_values + 1, (length,), generator=generator).float()
        keys = keys_of(values.clone(), descending=True)
        for n_first in (1 + length // 60, length // 3, length - 1):
            order = torch.argsort(values, descending=True)[:n_first]
            if by_topk:
                order = torch.topk(values, n_first).indices
            threshold = int(keys[order].max())
            marks = _followed(length, n_first, lambda a, b, k=keys: k[a:b], threshold, few)  # type: ignore[misc]  # mypy infers no lambda with a default
            if marks is None:
                return False
            found = First(threshold, marks).among(keys, 0, torch.empty(length, dtype=torch.bool))
            wanted = torch.zeros(length, dtype=torch.bool)
            wanted[order] = True
            if not torch.equal(found, wanted):
                return False
    return True


def _threshold(length: int, n_first: int, keys: Keys) -> tuple[int, int, int]:
    """The key of the last one; how many that equal it are among the first, and how many are."""
    offset = 1 << (31 - _LOW_BITS)
    high = torch.zeros(2 * offset, dtype=torch.int64)
    for start, stop in spans(length, READ):
        buckets = keys(start, stop).bitwise_right_shift(_LOW_BITS).add_(offset)
        high += torch.bincount(buckets, minlength=2 * offset)
    bucket, n_before = _bucket(high, n_first)
    low = torch.zeros(1 << _LOW_BITS, dtype=torch.int64)
    for start, stop in spans(length, READ):
        block = keys(start, stop)
        inside = block[block.bitwise_right_shift(_LOW_BITS) == bucket - offset]
        low += torch.bincount(inside.bitwise_and_(_PLACE >> _LOW_BITS), minlength=len(low))
    digit, n_below = _bucket(low, n_first - n_before)
    threshold = ((bucket - offset) << _LOW_BITS) + digit
    return threshold, n_first - n_before - n_below, int(low[digit])


def _bucket(counts: torch.Tensor, n_first: int) -> tuple[int, int]:
    """Which bucket the last of the first ones is in, and how many are in those before."""
    ends = counts.cumsum(0)
    bucket = int(torch.searchsorted(ends, n_first))
    return bucket, int(ends[bucket] - counts[bucket])


def _followed(
    length: int, n_first: int, keys: Keys, threshold: int, few: int
) -> torch.Tensor | None:
    """The marks; None where torch itself would give up partitioning."""

    def mark(entries: Entries) -> None:
        places = torch.from_numpy(np.compress(entries >> 32 == threshold, entries) & _PLACE)
        _set(marks, places)

    def whole(start: int, stop: int) -> Entries:
        entries = keys(start, stop).numpy().astype(np.int64)
        entries <<= 32
        entries |= np.arange(start, stop)
        return entries

    marks = _marks(length)
    low, high = 0, length
    read = _held(whole, low, high)
    for _ in range(2 * (length.bit_length() - 1)):
        if high - low <= few:
            order = np.argsort(read(low, high) >> 32, stable=True)
            mark(read(low, high)[order[: n_first - low]])
            return marks
        split = Split(read, low, high)
        if n_first <= split.cut:
            high, read = split.cut, split.left
        else:
            if split.pivot == threshold:
                for start, stop in spans(split.cut - low, READ):
                    mark(split.left(low + start, low + stop))
            low, read = split.cut, split.right
        read = _held(read, low, high)
    return None


def _held(read: Read, low: int, high: int) -> Read:
    """The same entries from memory where they are few."""
    if high - low > _HELD:
        return read
    held = np.empty(high - low, dtype=np.int64)
    for start, stop in spans(high - low, READ):
        held[start:stop] = read(low + start, low + stop)
    return lambda start, stop: held[start - low : stop - low]

"""Buffers of one block, made once and used for every tensor of every merge."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch

_BLOCK_PER_THREAD = 1 << 18  # elements: rows fit the caches, and calls cost little beside them
_BLOCK = 1 << 19  # whatever the threads: all rows together stay within 64 MiB


class Workspace:
    """Scratch memory of all kernels, float32 unless said otherwise.

    Args:
        per_thread: Elements of a block, times threads, up to ``_BLOCK``.

    Attributes:
        unit: One 1 that nobody writes to.
    """

    def __init__(self, per_thread: int = _BLOCK_PER_THREAD) -> None:
        self._per_thread = per_thread
        self._buffers: dict[tuple[str, torch.dtype], torch.Tensor] = {}
        self._views: dict[tuple[str, torch.dtype, int], torch.Tensor] = {}
        self.unit = torch.ones(1)

    @property
    def block(self) -> int:
        """Elements handled at a time."""
        return min(_BLOCK, self._per_thread * torch.get_num_threads())

    def row(self, name: str, length: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The buffer of this name, with whatever its last user left in it.

        Args:
            name: One name, one buffer.
            length: Elements.
            dtype: Another dtype is another buffer.
        """
        view = self._views.get((name, dtype, length))
        if view is None:
            view = self._views[name, dtype, length] = self._buffer(name, length, dtype)[:length]
        return view

    def float32(self, block: torch.Tensor, name: str) -> torch.Tensor:
        """The block itself, or in the buffer of this name; not to be changed."""
        if block.dtype == torch.float32:
            return block
        return self.row(name, block.numel()).copy_(block)

    def zeros(self, length: int) -> torch.Tensor:
        """Zeros that nobody writes to."""
        if length > self._zeros.numel():
            del self._zeros
            self._zero_length = length
            self._forget("zeros", torch.float32)
        key = ("zeros", torch.float32, length)
        if key not in self._views:
            self._views[key] = self._zeros[:length]
        return self._views[key]

    _zero_length = 0

    @cached_property
    def _zeros(self) -> torch.Tensor:
        return torch.zeros(max(self._zero_length, self.block))

    def _buffer(self, name: str, length: int, dtype: torch.dtype) -> torch.Tensor:
        buffer = self._buffers.get((name, dtype))
        if buffer is None or buffer.numel() < length:
            buffer = torch.empty(max(length, self.block), dtype=dtype)
            self._buffers[name, dtype] = buffer
            self._forget(name, dtype)
        return buffer

    def _forget(self, name: str, dtype: torch.dtype) -> None:
        """Drops the views of a buffer."""
        for key in [key for key in self._views if key[:2] == (name, dtype)]:
            del self._views[key]


def part(flat: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """A stretch of a flat tensor; the tensor itself where it is all of it, which costs no view."""
    return flat if stop - start == flat.numel() else flat[start:stop]


def spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    """Starts and stops of the blocks of a flat tensor, the last one shorter."""
    for start in range(0, length, step):
        yield start, min(start + step, length)

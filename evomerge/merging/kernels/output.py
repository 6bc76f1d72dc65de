"""From a block of float32 results to the home tensor, through the dtypes of the recipe."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from evomerge.merging.kernels.workspace import Workspace, part


class OutputTensor:
    """The home of one output tensor, filled block by block.

    Args:
        home: Contiguous, any floating dtype.
        casts: The dtypes that a result passes on its way, e.g. (float32, bfloat16): the
            kernel's, the one on disk. The home's own comes last by itself.
        workspace: For results between two roundings.
        done: Told the start and stop of every block once it is written.
    """

    def __init__(
        self,
        home: torch.Tensor,
        casts: tuple[torch.dtype, ...],
        workspace: Workspace,
        done: Callable[[int, int], None] | None = None,
    ) -> None:
        self._done = done
        self._flat = home.view(-1)
        self._between, self._limit = _way(casts, home.dtype)
        self._workspace = workspace
        self._is_bounded = False
        self._sums: list[torch.Tensor] = []

    def expect(self, bound: float) -> None:
        """Saves looking at results that are sure to be finite.

        Args:
            bound: No result, nor a sum on the way to it, is larger, roundings aside.
        """
        self._is_bounded = bound < self._limit / 2

    @property
    def is_direct(self) -> bool:
        """Whether float32 results are rounded once, to the home's dtype."""
        return not self._between

    @property
    def dtype(self) -> torch.dtype:
        """Of the home."""
        return self._flat.dtype

    def home(self, start: int, stop: int) -> torch.Tensor:
        """Elements ``start`` to ``stop``, to be filled."""
        return part(self._flat, start, stop)

    def put(self, start: int, stop: int, block: torch.Tensor) -> None:
        """Writes float32 results to elements ``start`` to ``stop``."""
        for dtype in self._between:
            rounded = self._workspace.row("rounded", stop - start, dtype)
            rounded.copy_(block)
            block = rounded
        self.home(start, stop).copy_(block)
        self.filled(start, stop)

    def filled(self, start: int, stop: int) -> None:
        """Notes that elements ``start`` to ``stop`` are written."""
        if not self._is_bounded:
            self._sums.append(self.home(start, stop).sum())
        if self._done is not None:
            self._done(start, stop)

    @property
    def is_surely_finite(self) -> bool:
        """Whether every block's sum is; a False may also be an overflow of a sum."""
        return not self._sums or bool(torch.isfinite(torch.stack(self._sums)).all())


@cache
def _way(
    casts: tuple[torch.dtype, ...], home: torch.dtype
) -> tuple[tuple[torch.dtype, ...], float]:
    """The dtypes between float32 and the home's, and the largest number that all of them hold."""
    between: list[torch.dtype] = []
    last: torch.dtype = torch.float32
    for dtype in casts:
        if dtype != last:
            between.append(dtype)
        last = dtype
    if between and between[-1] == home:
        between.pop()
    limit = min(torch.finfo(dtype).max for dtype in (torch.float32, *casts, home))
    return tuple(between), limit

"""How large a merged entry can be: what is surely finite need not be looked at again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch


def amplification(weights: Sequence[float], divisor: torch.Tensor | None = None) -> float:
    """How much larger than the largest entry a weighted sum can be, divided or not."""
    bound = sum(map(abs, weights))
    if divisor is None:
        return bound
    shrinks = abs(float(divisor))
    return bound * max(1.0, 1.0 / shrinks) if shrinks > 0 else float("inf")


class Magnitudes:
    """The largest magnitude in a few tensors, found when it is first asked for.

    Args:
        tensors: Of one output tensor.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._tensors = tensors

    @cached_property
    def largest(self) -> float:
        """Of all entries; NaN where one is NaN."""
        ends = [end.float() for tensor in self._tensors for end in torch.aminmax(tensor)]
        return float(torch.stack(ends).abs().max())

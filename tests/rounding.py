"""How far apart two orders of the same additions may end, on any processor."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike

_DEVIATIONS = 4  # of a random walk: once in 16,000


def rounding(whole: ArrayLike, n_additions: int, dtype: torch.dtype = torch.float32) -> float:
    """The absolute difference that two orders of the same additions may show.

    Every processor, number of threads and version of a library adds in an order of its own. Each
    addition is off by at most half the distance between neighbouring numbers, so ``n`` of them by
    a random walk of ``sqrt(n)`` such steps (Higham and Mary, A new approach to probabilistic
    rounding error analysis, 2019). The steps are as large as the terms, not as their sum: a
    component near zero is what large terms leave of one another, and is no better off.

    Args:
        whole: All components of the result; the largest says how large the terms are.
        n_additions: In one component.
        dtype: In which is added.
    """
    step = torch.finfo(dtype).eps / 2
    return _DEVIATIONS * math.sqrt(n_additions) * step * float(np.abs(whole).max())

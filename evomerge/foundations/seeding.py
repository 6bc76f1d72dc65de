"""One root seed, one named stream per purpose.

The label is hashed into the seed, so adding a stream never shifts another.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream_seed(root: int, *labels: str | int) -> int:
    """A seed in [0, 2**32) that depends on the root seed and every label."""
    text = "\x1f".join(str(part) for part in (root, *labels))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def stream(root: int, *labels: str | int) -> np.random.Generator:
    """The generator of one purpose: ``stream(0, "optimizer")``."""
    return np.random.default_rng(stream_seed(root, *labels))

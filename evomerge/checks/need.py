"""Something of a run that takes room, and what a number takes in it."""

from __future__ import annotations

from dataclasses import dataclass

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
COMPUTED_BYTES = 4  # merges and scores are computed in float32


@dataclass(frozen=True)
class Need:
    """Something that takes memory or disk.

    Attributes:
        what: In words.
        n_bytes: How much.
        is_certain: Whether a run cannot do with less.
        has_gradient: Whether training needs as much again, for a gradient of it.
    """

    what: str
    n_bytes: int
    is_certain: bool = True
    has_gradient: bool = False

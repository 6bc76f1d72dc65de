"""A cache of what was worked out of a list of requests, valid while the same list comes again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any


class Once:
    """Makes a thing of requests once.

    The run asks model after model the same questions: what depends on them alone is not worked
    out again. They are the same if they are the same objects, which costs nothing to see.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], tuple[list[Any], Any]] = {}

    def __call__(
        self, key: tuple[Any, ...], requests: Sequence[Any], make: Callable[[], Any]
    ) -> Any:
        """What was made before, else what is made now; one thing is kept for each key."""
        known = self._made.get(key)
        if known is None or len(known[0]) != len(requests) or not all(map(is_, known[0], requests)):
            known = self._made[key] = (list(requests), make())
        return known[1]

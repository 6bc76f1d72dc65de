"""What of a small space of finitely many points is still to be tried."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from itertools import product

from evomerge.merge_spaces.base import MergeSpace
from evomerge.nouns.space import Integer, Real
from evomerge.nouns.trial import Candidate

MOST_POINTS = 256  # of a space that is looked at: the soups of eight models


class Untried:
    """Remembers the recipes that were proposed.

    Args:
        merge_space: What varies.
        known: What was there before the search.
    """

    def __init__(self, merge_space: MergeSpace, known: Iterable[Candidate]) -> None:
        self._merge_space = merge_space
        self._tried = {candidate.recipe.digest for candidate in known}
        self._proposed: set[str] = set()

    def take(self, candidates: Iterable[Candidate]) -> None:
        """Candidates are proposed."""
        self._proposed.update(candidate.recipe.digest for candidate in candidates)

    @property
    def is_empty(self) -> bool:
        """Whether every recipe of the space was proposed, and none but these."""
        if not self._proposed or not self._is_small:
            return False
        return self._proposed <= self._all <= (self._proposed | self._tried)

    @property
    def _is_small(self) -> bool:
        levels = self._merge_space.space.levels
        sizes = [level for level in levels if level is not None]
        return len(sizes) == len(levels) and math.prod(sizes) <= MOST_POINTS

    @cached_property
    def _all(self) -> set[str]:
        """Digests of every recipe of the space; several points may have one recipe."""
        space, found = self._merge_space.space, set()
        values = [
            range(one.low, one.high + 1) if isinstance(one, Integer) else one.values
            for one in space
            if not isinstance(one, Real)
        ]
        for row in product(*values):
            point = {one.name: value for one, value in zip(space, row, strict=True)}
            recipe = self._merge_space.written(self._merge_space.recipe(point))
            found.add(recipe.digest)
        return found

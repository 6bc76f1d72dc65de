"""A few cases of a product of many, for factors that act on one another by twos at most.

Most faults show where one value, or two of different factors, are met (Kuhn, Wallace and Gallo,
Software Fault Interactions and Implications for Software Testing, 2004).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations, product
from typing import Any


def in_pairs(*factors: Sequence[Hashable]) -> list[tuple[Any, ...]]:
    """Cases in which each two values of different factors stand together at least once.

    Greedy: next comes the case in which most pairs meet that have not met yet.

    Args:
        factors: The values of each; for products of a few hundred cases.
    """
    met = {case: set(combinations(enumerate(case), 2)) for case in product(*factors)}
    missing = set().union(*met.values())
    found = []
    while missing:
        found.append(max(met, key=lambda case: len(met[case] & missing)))
        missing -= met[found[-1]]
    return found

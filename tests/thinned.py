"""Cases of one kind: a few are tried by the default suite, the others by the slow one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], of: int = 2, kept: tuple[int, ...] = (0,)) -> list[Any]:
    """All cases for ``parametrize``, most of them marked slow.

    Args:
        cases: Tuples where there are several names.
        of: How many stand together ...
        kept: ... and which of them are not slow, counted from 0.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if index % of in kept else pytest.mark.slow,
        )
        for index, case in enumerate(cases)
    ]


ZIGZAG = {"of": 4, "kept": (0, 3)}  # of a product whose last factor has two values, both

"""How reading a damaged file may end: well, or in sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, settings

from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.text_safety import offender

LONGEST = 2000  # characters of one sentence


def ends_well(read: Callable[[], Any]) -> bool:
    """Whether a reader succeeded; anything but an error of ours passes through."""
    try:
        read()
    except EvomergeError as error:
        for sentence in map(str, error.problems):
            check_sentence(sentence)
        return False
    return True


def check_sentence(sentence: str) -> None:
    """WHERE: WHAT. FIX., of a length that can be read, harmless to a terminal."""
    assert sentence.strip()
    assert sentence.endswith((".", "?", ")")), sentence
    assert len(sentence) <= LONGEST, sentence
    assert not offender(sentence), ascii(sentence)
    assert "Traceback (most recent call last)" not in sentence


def examples(n_default: int, n_slow: int) -> pytest.MarkDecorator:
    """How many examples a test draws: few in the default suite, many in the slow one."""
    slow = pytest.param(n_slow, marks=pytest.mark.slow)
    return pytest.mark.parametrize("n_examples", [n_default, slow])


def drawing(n_examples: int) -> settings:
    """The same examples every time, however long one takes; the first failure as it is found."""
    return settings(
        max_examples=n_examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )

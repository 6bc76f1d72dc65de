"""What a judge's reply says: a rating from 1 to 10, or who of two is better."""

from __future__ import annotations

import re

LOWEST, HIGHEST = 1.0, 10.0
RATING, CONTEST = "[[rating]]", "[[A]]"  # as prompts name their formats
_RATING = re.compile(r"\[\[\s*(-?\d+(?:\.\d+)?)\s*\]\]")
_WINNER = re.compile(r"\[\[\s*([ABC])\s*\]\]")
_SHARES = {"A": 1.0, "C": 0.5, "B": 0.0}  # of a win that is the first answer's


class UnreadableReplyError(Exception):
    """A reply without a verdict; its text says why, in a few words."""


def rating_in(reply: str) -> float:
    """The last ``[[number]]`` of a reply: a judge concludes with it, and may quote others before.

    Raises:
        UnreadableReplyError: there is none, or it is outside [1, 10].
    """
    found = _RATING.findall(reply)
    if not found:
        raise UnreadableReplyError("no [[rating]] in the reply")
    rating = float(found[-1])
    if not LOWEST <= rating <= HIGHEST:
        raise UnreadableReplyError("a rating outside [1, 10]")
    return rating


def share_in(reply: str) -> float:
    """What the first of two answers gets of a win: 1, 0, or half where neither is better.

    Raises:
        UnreadableReplyError: the reply does not say.
    """
    found = _WINNER.findall(reply)
    if not found:
        raise UnreadableReplyError("no [[A]], [[B]] or [[C]] in the reply")
    return _SHARES[found[-1]]

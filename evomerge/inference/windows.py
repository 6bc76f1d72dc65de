"""A text that is longer than a model reads, in windows of its length.

As lm-eval's rolling log-likelihood has them: every token is scored once, the first window stands
after a prefix token, and the last one is as long as the others, its context being what was scored
before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Window = tuple[list[int], list[int]]  # context, tokens that are scored


def windows_of(tokens: Sequence[int], prefix: int, max_length: int) -> Iterator[Window]:
    """The windows of a text, in its order.

    Args:
        tokens: The text.
        prefix: What its first token stands after.
        max_length: Tokens of a window at most.
    """
    whole = [prefix, *tokens]
    for start in range(0, len(tokens), max_length):
        end = min(start + max_length, len(tokens))
        # Where the last window is short, what was scored before fills it up.
        begin = 0 if start == 0 else end - max_length
        yield whole[begin : start + 1], whole[start + 1 : end + 1]

"""Token rows -> trees: tokens that rows begin with in common stand once.

Rows are cut at prefixes that many of them share, the stems; what continues a stem is laid out as
trees of bounded width. A tree is written depth first, so that a token is seen by exactly the
tokens from itself to the end of its branch: one number per token tells who sees whom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import inf
from typing import NamedTuple

import numpy as np

Row = tuple[int, ...]

# A tree this small is not cut further: attention over a few branches more costs nothing.
TREE_TOKENS = 256
# A stem is worth a pass of its own from so many tokens on, before so many tokens of branches.
STEM_TOKENS = 32
TOKENS_AFTER_STEM = 1024
# What all rows of a tree share is read alone from so many tokens on: without a mask, one by one.
# A CPU gains by it; other devices want many rows in a pass (`benchmarks/layouts.py`).
ALONE_TOKENS = {"cpu": 192}


def alone_on(device: str) -> float:
    """Tokens from which on a stem is read alone on a type of device."""
    return ALONE_TOKENS.get(device, inf)


@dataclass(frozen=True)
class Tree:
    """Rows that continue one stem, without it.

    Attributes:
        tokens: Token ids, depth first.
        positions: Place of each token in its rows, counted from the beginning of the stem.
        ends: Index behind the last token of the branch that begins with each token.
        places: Row -> indices of its last tokens, as many as are read.
    """

    tokens: list[int]
    positions: list[int]
    ends: list[int]
    places: dict[Row, list[int]]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether no token has two continuations."""
        return all(end == len(self) for end in self.ends)


class Branching(NamedTuple):
    """A stem, which may be empty, and the trees that continue it, widest first."""

    stem: Row
    trees: list[Tree]


def lay_out(n_read: Mapping[Row, int], most: float = inf, alone: float = inf) -> list[Branching]:
    """Trees of all rows.

    Args:
        n_read: Row -> how many of its last positions are read, at least 1. No stem holds one.
        most: Tokens of a tree of several rows at most, with its stem.
        alone: Tokens from which on what the rows of a tree share is its stem.
    """
    branchings = []
    for stem, groups in cut(n_read, most, alone).items():
        trees = [_tree(rows, len(stem), n_read) for rows in groups]
        branchings.append(Branching(stem, sorted(trees, key=len, reverse=True)))
    return branchings


def lay_out_apart(n_read: Mapping[Row, int]) -> list[Branching]:
    """Each row a tree of its own: nothing is shared."""
    trees = [_tree([row], 0, n_read) for row in sorted(n_read, key=lambda row: (-len(row), row))]
    return [Branching((), trees)]


def cut(
    n_read: Mapping[Row, int], most: float = inf, alone: float = inf
) -> dict[Row, list[list[Row]]]:
    """Stem -> the groups of rows that continue it, each of them one tree; see `lay_out`."""
    found: dict[Row, list[list[Row]]] = {}
    pending: list[tuple[list[Row], Row]] = [(sorted(n_read), ())] if n_read else []
    while pending:
        rows, stem = pending.pop()
        depth = _depth(rows, n_read)
        n_shared = depth - len(stem)
        n_branches = sum(new for _, new in _new_tokens(rows)) - depth
        is_stem = n_shared >= STEM_TOKENS
        is_small = n_branches <= TREE_TOKENS or (is_stem and n_branches < TOKENS_AFTER_STEM)
        if len(rows) == 1 or (is_small and depth + n_branches <= most):
            # Under a stem of its own this would be read a second time.
            stands_alone = not stem and len(rows) > 1 and depth >= alone
            found.setdefault(rows[0][:depth] if stands_alone else stem, []).append(rows)
            continue
        own = rows[0][:depth] if is_stem else stem
        pending += [(part, own) for part in reversed(_split(rows, depth))]
    return found


def _depth(rows: Sequence[Row], n_read: Mapping[Row, int]) -> int:
    """How many tokens sorted rows share before the first position that is read."""
    unread = min(len(row) - n_read[row] for row in rows)
    return min(_shared(rows[0], rows[-1]), unread)


def _split(rows: list[Row], depth: int) -> list[list[Row]]:
    """Groups by the token at a depth; halves where that is the same for all."""
    parts = [list(part) for _, part in groupby(rows, key=lambda row: row[depth])]
    if len(parts) > 1:
        return parts
    middle = len(rows) // 2
    return [rows[:middle], rows[middle:]]


def _tree(rows: Sequence[Row], base: int, n_read: Mapping[Row, int]) -> Tree:
    """The tree of sorted rows, without the first ``base`` tokens, which they share."""
    tree = Tree([], [], [], {})
    path: list[int] = []
    for row, new in _new_tokens(rows):
        first = max(len(row) - new, base)
        _end_branches(tree, path, first - base)
        for position in range(first, len(row)):
            path.append(len(tree))
            tree.tokens.append(row[position])
            tree.positions.append(position)
            tree.ends.append(0)
        tree.places[row] = path[len(path) - n_read[row] :]
    _end_branches(tree, path, 0)
    return tree


def _end_branches(tree: Tree, path: list[int], depth: int) -> None:
    for index in path[depth:]:
        tree.ends[index] = len(tree)
    del path[depth:]


def _new_tokens(rows: Sequence[Row]) -> Iterator[tuple[Row, int]]:
    """Each of sorted rows, and how many of its tokens the one before does not begin with."""
    yield rows[0], len(rows[0])
    for before, row in pairwise(rows):
        yield row, len(row) - _shared(before, row)


def _shared(one: Row, other: Row) -> int:
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return int(np.argmax(np.asarray(one[:length]) != np.asarray(other[:length])))

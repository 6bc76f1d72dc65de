"""Whether two tensors in files are equal, with no more read than that takes, and once.

Tensors that differ do so in their first bytes, almost always; those that are equal are read to
their end. What came of it is kept, and where a file's digests are known nothing is read at all.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.reading import opened
from evomerge.models.digests import FileDigest, known_digests
from evomerge.models.facts import TensorFacts
from evomerge.models.kept import FileState, Kept

_FIRST_READ = 1 << 12  # bytes of two tensors that are compared
_MOST_READ = 1 << 22


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, under its name there."""

    file: Path
    name: str
    tensor: TensorFacts

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for tensors that may be equal."""
        return (self.tensor.dtype, self.tensor.shape, self.tensor.n_bytes)


@dataclass(frozen=True)
class _File:
    """A weight file that is open."""

    handle: int
    state: FileState
    digest: FileDigest | None

    def digest_of(self, stored: Stored) -> str | None:
        """Of a tensor in it, None where it is not known."""
        return None if self.digest is None else self.digest.tensors.get(stored.name)


@dataclass
class _Pair:
    """What is known of the tensors of two files.

    Attributes:
        verdicts: First byte of each and their length -> whether they are equal.
        is_new: Whether there is more than was kept.
    """

    verdicts: dict[str, bool]
    is_new: bool = False


class SameBytes(ExitStack):
    """Compares tensors in weight files, opened when they are asked for; keeps what it finds."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[Path, _File | None] = {}
        self._digests = known_digests()
        self._pairs: dict[tuple[FileState, FileState], _Pair] = {}
        self._kept: Kept[dict[str, bool]] = Kept("comparisons", dict[str, bool])

    def __exit__(self, *details: Any) -> bool | None:
        self._keep()
        return super().__exit__(*details)

    def are_in(self, one: Stored, other: Stored) -> bool:
        """Whether two tensors have the same bytes; not where a file cannot be read."""
        if one.kind != other.kind:
            return False
        first, second = self._opened(one.file), self._opened(other.file)
        if first is None or second is None:
            return False
        if first.state == second.state and one.tensor.offset == other.tensor.offset:
            return True
        digests = first.digest_of(one), second.digest_of(other)
        if None not in digests:
            return digests[0] == digests[1]
        if second.state < first.state:
            return self._compared(second, other.tensor, first, one.tensor)
        return self._compared(first, one.tensor, second, other.tensor)

    def _compared(self, first: _File, one: TensorFacts, second: _File, other: TensorFacts) -> bool:
        pair = self._pair(first.state, second.state)
        place = f"{one.offset} {other.offset} {one.n_bytes}"
        if place not in pair.verdicts:
            try:
                found = _are_same(first.handle, one, second.handle, other)
            except OSError:
                return False
            pair.verdicts[place], pair.is_new = found, True
        return pair.verdicts[place]

    def _pair(self, first: FileState, second: FileState) -> _Pair:
        states = first, second
        if states not in self._pairs:
            self._pairs[states] = _Pair(dict(self._kept.recall(*states) or {}))
        return self._pairs[states]

    def _keep(self) -> None:
        """Keeps what was found of files that did not change meanwhile."""
        files = [file for file in self._open.values() if file is not None]
        steady = {f.state for f in files if FileState.of(os.fstat(f.handle)) == f.state}
        for states, pair in self._pairs.items():
            if pair.is_new and steady.issuperset(states):
                self._kept.keep(pair.verdicts, *states)

    def _opened(self, file: Path) -> _File | None:
        if file not in self._open:
            try:
                handle = self.enter_context(opened(file)).fileno()
            except EvomergeError:
                self._open[file] = None  # whoever loads it says what is wrong
            else:
                state = FileState.of(os.fstat(handle))
                self._open[file] = _File(handle, state, self._digests.recall(state))
        return self._open[file]


def _are_same(first: int, one: TensorFacts, second: int, other: TensorFacts) -> bool:
    at, n_bytes, most = 0, one.n_bytes, _FIRST_READ
    while at < n_bytes:
        wanted = min(most, n_bytes - at)
        piece = os.pread(first, wanted, one.offset + at)
        if not piece or piece != os.pread(second, len(piece), other.offset + at):
            return False
        at, most = at + len(piece), min(4 * most, _MOST_READ)
    return True

"""SHA-256 of every byte of a file, and of every tensor in it.

Tensors that are equal have the same digest in whatever file they stand, so models can be
compared without loading them. A file is read once: see :mod:`evomerge.models.kept`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from evomerge.foundations.errors import UnreadableError
from evomerge.foundations.reading import opened, reading
from evomerge.models.facts import TensorFacts
from evomerge.models.headers import BrokenFileError, read_header
from evomerge.models.kept import FileState, Kept
from evomerge.models.repository import Folder

TENSORS = ".safetensors"
_AT_A_TIME = 1 << 20  # bytes; fits the processor's caches
_STRETCH = 1 << 26  # bytes of a file without tensors that one thread digests
_MOST_THREADS = 8  # beyond it disks are the limit

Hear = Callable[[int], None]


@dataclass(frozen=True)
class FileDigest:
    """What a file holds.

    Attributes:
        whole: SHA-256 of all its bytes, stretch by stretch.
        tensors: Tensor name -> SHA-256 of its dtype, shape and values; empty where the file
            holds none.
    """

    whole: str
    tensors: Mapping[str, str]


def known_digests() -> Kept[FileDigest]:
    """The digests that were computed before, by any command."""
    return Kept("digests", FileDigest)


@dataclass(frozen=True)
class _Span:
    """Some bytes of a file: a tensor, or what stands between tensors."""

    start: int
    stop: int
    tensor: str = ""
    label: bytes = b""  # dtype and shape: equal bytes of another shape are another tensor


@dataclass
class Digests:
    """Digests of files, each read once in a lifetime.

    Args:
        known: Where they are kept.
        hear: Is told of bytes as they are read, from several threads.
        stretch: Bytes outside tensors that one thread digests; another gives other digests.
    """

    known: Kept[FileDigest] = field(default_factory=known_digests)
    hear: Hear | None = None
    stretch: int = _STRETCH

    def unread(self, files: Iterable[Path]) -> int:
        """Bytes of files whose digest is not known.

        Raises:
            UnreadableError: one is no regular file, or cannot be read.
        """
        states = map(_state, files)
        return sum(state.size for state in states if self.known.recall(state) is None)

    def of(self, file: Path) -> FileDigest:
        """The digest of a file.

        Raises:
            UnreadableError: it is no regular file, cannot be read, or changes meanwhile.
        """
        state = _state(file)
        found = self.known.recall(state)
        if found is None:
            found = self._read(file, state)
            if _state(file) != state:
                raise UnreadableError(
                    "changes while it is read",
                    where=str(file),
                    fix="Wait until it is written, then give the same command again.",
                )
            self.known.keep(found, state)
        return found

    def _read(self, file: Path, state: FileState) -> FileDigest:
        spans = _spans(file, state.size, self.stretch)
        with opened(file) as content, reading(file), _threads() as threads:
            handle = content.fileno()
            digests = list(threads.map(lambda span: self._of_span(handle, span), spans))
        whole = hashlib.sha256(b"".join(digests)).hexdigest()
        tensors = zip(spans, digests, strict=True)
        return FileDigest(whole, {s.tensor: found.hex() for s, found in tensors if s.tensor})

    def _of_span(self, handle: int, span: _Span) -> bytes:
        digest = hashlib.sha256(span.label)
        at = span.start
        while at < span.stop:
            piece = os.pread(handle, min(_AT_A_TIME, span.stop - at), at)
            if not piece:
                break  # it became shorter, which its state tells
            digest.update(piece)
            at += len(piece)
            if self.hear is not None:
                self.hear(len(piece))
        return digest.digest()


def _threads() -> ThreadPoolExecutor:
    """Hashing lets go of the interpreter, so several tensors are digested at once."""
    return ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))


def _state(file: Path) -> FileState:
    with opened(file) as content:
        return FileState.of(os.fstat(content.fileno()))


def _spans(file: Path, size: int, stretch: int) -> Sequence[_Span]:
    """The stretches of a file, which leave nothing out; one for a file that holds no tensors."""
    try:
        is_safe = file.suffix == TENSORS
        tensors = read_header(Folder(file.parent), file.name, size) if is_safe else {}
    except BrokenFileError:
        tensors = {}  # whoever loads it says what is wrong; its bytes are its bytes
    return list(_covering(tensors, size, stretch))


def _covering(tensors: Mapping[str, TensorFacts], size: int, stretch: int) -> Iterator[_Span]:
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
        yield from _between(end, tensor.offset, stretch)
        label = f"{tensor.dtype} {list(tensor.shape)}\n".encode()
        yield _Span(tensor.offset, tensor.offset + tensor.n_bytes, name, label)
        end = max(tensor.offset + tensor.n_bytes, end)
    yield from _between(end, size, stretch)


def _between(start: int, stop: int, stretch: int) -> Iterator[_Span]:
    for at in range(start, stop, stretch):
        yield _Span(at, min(at + stretch, stop))

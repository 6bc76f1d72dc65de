"""Whether a model is still the one it was: a digest of every byte that is loaded of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

from evomerge.foundations.reading import is_folder
from evomerge.genome.model_names import ModelName
from evomerge.models.digests import Digests
from evomerge.models.model_folder import TEMPLATES, regular_files
from evomerge.models.snapshot import commit_of

# What transformers, tokenizers and mergekit read of a folder.
_READ = (".json", ".safetensors", ".bin", ".model", ".jinja", ".txt", ".py")
_VOCABULARIES = (".tiktoken", ".spm", ".bpe", ".vocab")
_MUCH = 1 << 30  # bytes: about a second of one core

Share = Callable[[float], None]


def fingerprints(models: Iterable[Any], hear: Share | None = None) -> list[str]:
    """For each model a digest of what its files hold; for a model on the Hub its commit.

    Files that were digested before, by any command, and have not changed are not read again.

    Args:
        models: As recipes name them.
        hear: Is told how much of what must be read is read, from 0 to 1, where it takes long.

    Raises:
        ModelError: what stands in a file's place is none.
        UnreadableError: a file cannot be read.
        OSError: the Hub cannot be reached.
        ValueError: the Hub does not say which commit it is.
    """
    parts = [_parts(model) for model in models]
    folders = dict.fromkeys(Path(p) for some in parts for p, _ in some if is_folder(p))
    files = {folder: list(read_files(folder)) for folder in folders}
    digests = Digests()
    if hear is not None:
        digests.hear = _Progress(digests.unread(chain(*files.values())), hear)
    known = {folder: _of_files(folder, own, digests) for folder, own in files.items()}
    return [
        "+".join(known.get(Path(path)) or commit_of(path, revision) for path, revision in some)
        for some in parts
    ]


def fingerprint(model: Any) -> str:
    """The digest of one model; see :func:`fingerprints`."""
    return fingerprints([model])[0]


def folder_digest(folder: Path) -> str:
    """The digest of a model in a folder; see :func:`fingerprints`."""
    return _of_files(folder, read_files(folder), Digests())


def folders_of(model: Any) -> tuple[Path, ...]:
    """The local folders of a model as a recipe names it: its own and its adapter's."""
    return tuple(Path(path) for path, _ in _parts(model) if is_folder(path))


def _parts(model: Any) -> list[tuple[str, str | None]]:
    """Folder or Hub id of a model and of its adapter, each with its revision."""
    name = ModelName.model_validate(model)
    own = [(name.path, name.revision)]
    return own if name.lora is None else [*own, (name.lora, name.lora_revision)]


def read_files(folder: Path) -> Iterator[Path]:
    """Those of a model folder that may be read when it is loaded."""
    for place in (folder, folder / TEMPLATES):
        names = regular_files(place) if is_folder(place) else {}
        files = (place / name for name in names if name != "README.md")
        yield from (file for file in files if file.suffix.lower() in (*_READ, *_VOCABULARIES))


def _of_files(folder: Path, files: Iterable[Path], digests: Digests) -> str:
    found = hashlib.sha256()
    for file in files:
        name = file.relative_to(folder).as_posix()
        # surrogateescape: a name on Linux is bytes, and need not be UTF-8
        found.update(name.encode(errors="surrogateescape") + b"\0")
        found.update(bytes.fromhex(digests.of(file).whole))
    return found.hexdigest()


class _Progress:
    """Adds up what threads read, and tells of it a hundred times where it is much."""

    def __init__(self, total: int, tell: Share) -> None:
        self._total, self._tell = total, tell
        self._done, self._told = 0, -1
        self._lock = Lock()

    def __call__(self, n_bytes: int) -> None:
        with self._lock:
            self._done += n_bytes
            percent = 100 * self._done // self._total
            if self._total >= _MUCH and percent > self._told:
                self._told = percent
                self._tell(percent / 100)

"""Whether a model is still the one it was: a digest that costs a few reads, not all weights.

Training changes nearly every weight, so a few blocks of every file tell two checkpoints
apart; sizes, headers and all small files are read whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.inspection.snapshot import commit_of

if TYPE_CHECKING:
    from mergekit.common import ModelPath

SMALL = 1 << 20  # bytes up to which a file is read whole
N_BLOCKS, BLOCK = 32, 4096  # read of a larger one, evenly spread, its beginning and end among them
_READ = (".json", ".safetensors", ".bin", ".model", ".jinja", ".txt", ".py")


def fingerprint(model: Any) -> str:
    """Digest of what a model's files hold; for a model on the Hub its commit.

    Args:
        model: As a recipe names it.

    Raises:
        OSError: a file cannot be read.
        ValueError: the Hub does not say which commit it is.
    """
    return "+".join(
        _of_folder(Path(part.path))
        if Path(part.path).is_dir()
        else commit_of(part.path, part.revision)
        for part in _parts(model)
    )


def folders_of(model: Any) -> tuple[Path, ...]:
    """The local folders of a model as a recipe names it: its own and its adapter's."""
    paths = (Path(part.path) for part in _parts(model))
    return tuple(path for path in paths if path.is_dir())


def _parts(model: Any) -> list[ModelPath]:
    from mergekit.common import ModelReference  # heavy; a digest of a task needs none of it

    reference = ModelReference.model_validate(model)
    return [part for part in (reference.model, reference.lora) if part is not None]


def _of_folder(folder: Path) -> str:
    digest = hashlib.sha256()
    files = (p for p in folder.iterdir() if p.suffix in _READ and p.name != "README.md")
    for file in sorted(files, key=lambda path: path.name):
        size = file.stat().st_size
        digest.update(f"{file.name}\x1f{size}\x1f".encode())
        for block in _blocks(file, size):
            digest.update(block)
    return digest.hexdigest()


def _blocks(file: Path, size: int) -> Iterator[bytes]:
    with file.open("rb") as content:
        if size <= SMALL:
            yield content.read()
            return
        for index in range(N_BLOCKS):
            content.seek((size - BLOCK) * index // (N_BLOCKS - 1), os.SEEK_SET)
            yield content.read(BLOCK)

"""Folders that many tests write: what the same arguments gave is computed once in a process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from tests import suite_seed

_MOST_BYTES = 1 << 22  # of a folder that is remembered
_made: dict[str, dict[str, bytes]] = {}

Write = Callable[..., Path]  # the folder, and what decides its bytes; models by their folders


def written_once(write: Write) -> Write:
    """The same, with the files of an earlier call where all arguments are equal."""

    @wraps(write)
    def written(folder: Path, *given: Any, **settings: Any) -> Path:
        if folder.exists() and any(folder.iterdir()):
            return write(folder, *given, **settings)
        arguments = [*map(_told, given), *((key, _told(settings[key])) for key in sorted(settings))]
        key = repr((write.__name__, suite_seed.SUITE_SEED, arguments))
        if key not in _made or " at 0x" in key:  # an object without a text of its own
            write(folder, *given, **settings)
            files = {file.name: file.read_bytes() for file in folder.iterdir()}
            if sum(map(len, files.values())) <= _MOST_BYTES:
                _made[key] = files
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in _made[key].items():
            (folder / name).write_bytes(content)
        return folder

    return written


def _told(value: Any) -> Any:
    """A model by the bytes of its weights, where they lie in one file."""
    if not isinstance(value, Path):
        return value
    weights = value / "model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else object()

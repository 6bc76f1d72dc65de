"""What is kept of an epoch of training, so that nobody trains it again."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from evomerge.optimizers.context import Effort, Lesson


def name_of(epoch: int) -> str:
    """Under what an epoch is kept, counted from 1."""
    return f"epoch-{epoch}.npz"


def to_bytes(lesson: Lesson) -> bytes:
    """A lesson as a file."""
    buffer = io.BytesIO()
    told = {
        "losses": dict(lesson.losses),
        "config": lesson.config,
        "folder": lesson.folder,
        "effort": asdict(lesson.effort),
    }
    np.savez(
        buffer,
        genotype=lesson.genotype,
        state=np.frombuffer(lesson.state, dtype=np.uint8),
        told=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8),
    )
    return buffer.getvalue()


def from_bytes(content: bytes) -> Lesson:
    """What :func:`to_bytes` wrote.

    Raises:
        ValueError: it is damaged; KeyError and OSError likewise.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as held:
        told = json.loads(held["told"].tobytes())
        return Lesson(
            held["genotype"],
            held["state"].tobytes(),
            told["losses"],
            told["config"],
            told.get("folder"),
            Effort(**told.get("effort", {})),
        )


def seconds_in(folder: Path) -> float:
    """Seconds of training that are kept anywhere below a folder; a damaged file counts nothing."""
    found = 0.0
    for path in folder.rglob("epoch-*.npz"):
        with suppress(ValueError, LookupError, TypeError, OSError, BadZipFile):
            found += from_bytes(path.read_bytes()).effort.seconds
    return found


def lessons_in(folder: Path) -> Iterator[tuple[int, Path]]:
    """Epoch and file of each lesson that is kept in a folder, in their order."""
    epoch = 1
    while (path := folder / name_of(epoch)).is_file():
        yield epoch, path
        epoch += 1

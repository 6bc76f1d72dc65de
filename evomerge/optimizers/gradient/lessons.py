"""What is kept of an epoch of training, so that nobody trains it again."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import NotRequired, TypedDict

from evomerge.foundations.arrays import MOST, arrays_in
from evomerge.foundations.errors import LedgerError
from evomerge.foundations.reading import is_there, read_bytes
from evomerge.foundations.text_safety import offender
from evomerge.optimizers.search_context import Effort, Lesson

_ARRAYS = {"genotype": ("f", 1), "state": ("u", 1), "told": ("u", 1)}
_Count = Annotated[int, Field(ge=0)]


def _a_name(text: str) -> str:
    if "\n" in text or offender(text):
        raise ValueError("is no name of a folder")
    return text


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Effort(TypedDict, total=False):
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    n_passes: _Count
    n_tokens: _Count
    n_teacher_tokens: _Count
    n_documents: _Count


@with_config(ConfigDict(strict=True))
class _Told(TypedDict):
    losses: dict[str, float]
    config: dict[str, Any] | None
    folder: NotRequired[Annotated[str, AfterValidator(_a_name)] | None]
    effort: NotRequired[_Effort]
    to_beat: NotRequired[Annotated[float, Field(allow_inf_nan=False)] | None]
    after: NotRequired[_Count | None]


_TOLD: TypeAdapter[Any] = TypeAdapter(_Told)


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
        "to_beat": lesson.to_beat,
        "after": lesson.after,
    }
    np.savez(
        buffer,
        genotype=lesson.genotype,
        state=np.frombuffer(lesson.state, dtype=np.uint8),
        told=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8),
    )
    return buffer.getvalue()


def from_bytes(content: bytes, where: str) -> Lesson:
    """What :func:`to_bytes` wrote.

    Args:
        content: Of the file.
        where: Its name, for people.

    Raises:
        LedgerError: it is damaged, or something else.
    """
    try:
        held = arrays_in(content, _ARRAYS)
        told = _TOLD.validate_json(held["told"].tobytes())
        genotype = held["genotype"].astype(np.float64)
        if not ((genotype >= 0) & (genotype <= 1)).all():
            raise ValueError("its genotype is outside [0, 1]")
    except ValueError as error:  # pydantic's own is one
        reason = str(error).partition("\n")[0]
        raise LedgerError(
            f"not what an epoch of training leaves ({reason})",
            where=where,
            fix="Restore the file from a copy, or remove it: a run that goes on trains it anew.",
        ) from error
    effort = Effort(**told.get("effort", {}))
    state = held["state"].tobytes()
    return Lesson(
        genotype,
        state,
        told["losses"],
        told["config"],
        told.get("folder"),
        effort,
        told.get("to_beat"),
        told.get("after"),
    )


def read_lesson(path: Path) -> Lesson:
    """The lesson in a file of a run folder.

    Raises:
        UnreadableError: it is no regular file, or may not be read.
        LedgerError: it is damaged, or something else.
    """
    return from_bytes(read_bytes(path, MOST, follow=False), str(path))


def seconds_in(folder: Path) -> float:
    """Seconds of training that are kept anywhere below a folder.

    Raises:
        UnreadableError, LedgerError: as :func:`read_lesson` does.
    """
    places = (Path(place) for place, *_ in os.walk(folder))
    return sum(
        read_lesson(path).effort.seconds for place in places for _, path in lessons_in(place)
    )


def lessons_in(folder: Path) -> Iterator[tuple[int, Path]]:
    """Epoch and file of each lesson that is kept in a folder, in their order."""
    epoch = 1
    while is_there(path := folder / name_of(epoch)):
        yield epoch, path
        epoch += 1

"""Writing where the user says: what is there stays, unless he says ``--force``.

Links, FIFOs, sockets and devices stay in any case, for who writes one writes somewhere else. A file
is created by name at the moment of writing, so nothing that appears meanwhile is lost. A process
that is killed in that moment leaves a cut file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from evomerge.foundations.errors import OccupiedError, UnreadableError
from evomerge.foundations.files import write_atomic, writing
from evomerge.foundations.reading import (
    is_file,
    is_folder,
    is_there,
    kind_of,
    listed,
    read_bytes,
    real_path,
)

MARK = "mergekit_config.yml"  # what a built model has and no other
GRAFTED = "graft.json"  # likewise a model that sees with the language part of another
FIT = "fit.json"  # likewise an adapter made of a merge: its error, tensor by tensor
_PARTS = (".json", ".safetensors", ".model", ".jinja", ".txt", ".py", ".md", ".tiktoken")
_OWN_FOLDERS = frozenset(("additional_chat_templates",))  # what a built model may have below it
_FORCE = "Choose another name, or add --force to replace it."
_OTHER = "Choose another name."
ANOTHER_FOLDER = "Name a folder in which this user may write."


@dataclass(frozen=True)
class Replaceable:
    """A kind of folder that evomerge writes, and replaces with ``--force``.

    Attributes:
        what: What it holds, for people.
        marks: Files that one has, the last of which nobody else writes.
    """

    what: str
    marks: tuple[str, ...]


BUILT_MODEL = Replaceable("a built model", ("config.json", MARK))
GRAFT = Replaceable("a model that was put together", ("config.json", GRAFTED))
ADAPTER = Replaceable("an adapter made of a merge", ("adapter_config.json", FIT))


def create(path: Path, content: str, *, force: bool = False) -> bool:
    """Writes a file that is not there yet; folders above it are made.

    Args:
        path: Where to.
        content: Its text.
        force: Whether another regular file that is there is replaced.

    Returns:
        False where the same content was there already.

    Raises:
        OccupiedError: something else is there.
        LostFileError: it cannot be written.
    """
    if refuse_occupied(path, content, force=force):
        return False
    if force and is_file(path):
        write_atomic(path, content)
        return True
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError as error:
            raise OccupiedError("has just appeared", where=str(path), fix=_OTHER) from error
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode())
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink()
            raise
    return True


def refuse_occupied(path: Path, content: str | None = None, *, force: bool = False) -> bool:
    """Does nothing where a file may be created, or replaced.

    Args:
        path: Where it will be.
        content: Of it, if that is known already.
        force: Whether a regular file that is there may be replaced.

    Returns:
        Whether the same content is there already.

    Raises:
        OccupiedError: something else is there.
    """
    if not is_there(path):
        return False
    _refuse_special(path)
    if is_folder(path):
        raise OccupiedError("is a folder, expected a file or nothing", where=str(path), fix=_OTHER)
    is_same = content is not None and _holds(path, content.encode())
    if not (is_same or force):
        raise OccupiedError("exists, and holds something else", where=str(path), fix=_FORCE)
    return is_same


def refuse_occupied_folder(
    path: Path,
    kind: Replaceable = BUILT_MODEL,
    *,
    force: bool = False,
    needed: Collection[Path] = (),
) -> None:
    """Does nothing where a folder may be written: nothing or an empty one is there.

    Args:
        path: Of the folder.
        kind: What is to be written.
        force: Whether one of the same kind that is there may be replaced.
        needed: Folders that are never replaced: the models it is built from.

    Raises:
        OccupiedError: something else is there.
    """
    if not is_there(path):
        return
    _refuse_special(path)
    if not is_folder(path):
        raise OccupiedError("is a file, expected a folder or nothing", where=str(path), fix=_OTHER)
    if any(_is_same_folder(folder, path) for folder in needed):
        raise OccupiedError("is a model of the recipe", where=str(path), fix=_OTHER)
    there = listed(path)
    other = next((entry for entry in there if not _is_of_a_model(entry)), None)
    is_own = other is None and all(is_file(path / mark) for mark in kind.marks)
    if there and not is_own:
        lack = f"{other.name} among them" if other else f"and no {kind.marks[-1]}"
        raise OccupiedError(
            f"holds other things than {kind.what}, {lack}",
            where=str(path),
            fix="Name a new or an empty folder.",
        )
    if there and not force:
        raise OccupiedError(f"holds {kind.what} already", where=str(path), fix=_FORCE)


def refuse_inside_needed(path: Path, needed: Collection[Path]) -> None:
    """Does nothing where a file or a folder may be written without touching what is needed.

    Args:
        path: Of it.
        needed: Folders into which nothing is written: the models that a recipe names.

    Raises:
        OccupiedError: it lies in one of them.
    """
    for above in real_path(path).parents:
        inside = next((folder for folder in needed if _is_same_folder(folder, above)), None)
        if inside is not None:
            what = f"lies in {inside}, which is a model of the recipe"
            raise OccupiedError(what, where=str(path), fix=_OTHER)


def obstacle_to_folder(path: Path) -> str:
    """Why there cannot be a folder in which this user may write; empty where there can.

    Nothing is made.
    """
    full = path.absolute()
    try:
        there = next(place for place in (full, *full.parents) if is_there(place))
        if not is_folder(there):
            return f"{there} is {kind_of(there) or 'a file'}, expected a folder"
        for name in (*(there / part for part in full.relative_to(there).parts), full):
            with suppress(FileNotFoundError):
                os.lstat(name)  # says which names no file can have
    except (OSError, ValueError) as error:  # ValueError: likewise
        return f"no folder can have this name ({getattr(error, 'strerror', None) or error})"
    if not os.access(there, os.W_OK | os.X_OK):
        is_fixed = os.statvfs(there).f_flag & os.ST_RDONLY
        return f"{there} {'is read-only' if is_fixed else 'may not be written by this user'}"
    return ""


def put_folder(
    made: Path, path: Path, kind: Replaceable = BUILT_MODEL, *, force: bool = False
) -> None:
    """Moves a folder to its name; what was there goes, or nothing is moved.

    A process that is killed in that moment leaves what was there under a name of its own.

    Args:
        made: The folder, on the same disk.
        path: Its name from now on.
        kind: What it holds.
        force: Whether one of the same kind that is there is replaced.

    Raises:
        OccupiedError: something else is there.
        LostFileError: it cannot be moved.
    """
    refuse_occupied_folder(path, kind, force=force)
    aside = path.with_name(f".{path.name}.replaced-{uuid4().hex}")
    with writing(path):
        try:
            if force and is_folder(path):
                path.rename(aside)
            made.rename(path)  # takes the place of an empty folder, never of a full one
        finally:  # also where a Ctrl-C comes between the two
            if is_folder(aside) and is_there(made):
                aside.rename(path)
            elif is_folder(aside):
                shutil.rmtree(aside)


def _is_same_folder(one: Path, other: Path) -> bool:
    return is_folder(one) and is_folder(other) and os.path.samefile(one, other)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return read_bytes(path, len(data)) == data
    except UnreadableError:  # larger, or not for this user: another either way
        return False


def _refuse_special(path: Path) -> None:
    kind = "a symbolic link" if os.path.islink(path) else kind_of(path)
    if kind not in ("", "a folder"):
        raise OccupiedError(f"is {kind}, which is never written", where=str(path), fix=_OTHER)


def _is_of_a_model(entry: Path) -> bool:
    if os.path.islink(entry):
        return False
    if is_folder(entry):
        return entry.name in _OWN_FOLDERS
    return entry.name == MARK or entry.suffix in _PARTS

"""Copies of model folders on a disk of the machine that reads them, each made once and checked.

Where many machines read the same files over a network, each has a copy of its own; one of its
workers makes it while the others wait. A copy is known by what it holds: it is found again by the
next run, on whatever path that has the model.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from evomerge.foundations.errors import LostFileError, RunError
from evomerge.foundations.files import writing
from evomerge.foundations.lock import alone
from evomerge.foundations.reading import is_folder
from evomerge.foundations.scratch import scratch
from evomerge.models.fingerprint import folder_digest, read_files

Digests = Mapping[str, str]  # path of a model folder -> the digest of what it holds


def copies_of(digests: Digests, root: str) -> dict[str, str]:
    """Path of each model folder -> that of its copy on this machine, which is there now.

    Args:
        digests: The folders, with their digests as the run began.
        root: Folder for all copies; variables of the environment are those of this process.

    Raises:
        RunError: a variable is not set, or it is no whole path.
        LostFileError: there is no room for a copy, another user's are there, or it is not what the
            run began with.
    """
    place = Path(os.path.expandvars(root))
    if "$" in str(place) or not place.is_absolute():
        raise RunError(
            f"got {root}, which is {place} on node {os.uname().nodename}, expected a whole path",
            where="execution.copies",
            fix="Set the variables that it names on every node.",
        )
    return {
        os.path.normpath(path): str(_copy(Path(path), digest, place))
        for path, digest in digests.items()
    }


def _copy(folder: Path, digest: str, root: Path) -> Path:
    copy, node = root / f"{folder.name}-{digest[:16]}", os.uname().nodename
    with ExitStack() as held:
        with writing(root, node):
            root.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone(root / f".{copy.name}.lock"))
        if is_folder(copy) and folder_digest(copy) == digest:
            return copy
        with writing(copy, node), scratch(root) as unfinished:
            for file in read_files(folder):
                part = unfinished / file.relative_to(folder)
                part.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, part)
            if folder_digest(unfinished) != digest:
                raise LostFileError(
                    f"its copy in {root} on node {node} is not what the run began with",
                    where=str(folder),
                    fix="Put its files back; the same command then continues the run.",
                )
            shutil.rmtree(copy, ignore_errors=True)  # somebody changed it
            unfinished.rename(copy)
    return copy

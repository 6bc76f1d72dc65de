"""A disk that takes no more where the system names no file: whose write it was, and what to do."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback

from evomerge.foundations.errors import Problem, has_no_room, why
from evomerge.foundations.sizes import size_text

_OWN = "evomerge"
_PRINTERS = ("click", "rich")  # packages that write to standard output and standard error


def is_nameless(error: OSError) -> bool:
    """Whether a disk took no more and nobody says of which file."""
    return error.filename is None and has_no_room(error)


def is_of_output(error: OSError, flushed_in: str) -> bool:
    """Whether it was standard output, or standard error, that could not be written.

    Args:
        error: What was raised.
        flushed_in: The module that flushes standard output itself.
    """
    innermost = _modules(error)[-1]
    return innermost == flushed_in or innermost.partition(".")[0] in _PRINTERS


def problem_of(error: OSError) -> Problem:
    """What to say of any other write: which part of evomerge asked for it, and where is room."""
    asked = [name for name in _modules(error) if name.partition(".")[0] == _OWN]
    places = {"here": os.getcwd(), "in the temporary folder": tempfile.gettempdir()}
    free = [
        f"{size_text(shutil.disk_usage(at).free)} {where} ({at})" for where, at in places.items()
    ]
    return Problem(
        f"a disk takes no more ({why(error)}); free: {' and '.join(free)}",
        where=asked[-1],
        fix="Make room for the run folder, or name another temporary folder by TMPDIR; the same "
        "command then continues.",
    )


def _modules(error: OSError) -> list[str]:
    """Names of the modules on the way to it, the innermost last."""
    frames = traceback.walk_tb(error.__traceback__)
    return [str(frame.f_globals.get("__name__")) for frame, _ in frames]

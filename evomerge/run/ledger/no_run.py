"""What stands where a run was named and there is none, and which run may be meant."""

from __future__ import annotations

from pathlib import Path

from evomerge.foundations.errors import NoRunError
from evomerge.foundations.reading import is_folder, is_there, listed
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.staged_folder import result_folder

_SHOWN = 8  # runs named in a message


def runs_below(path: Path) -> str:
    """Runs that lie in a folder, by name; empty where none does."""
    places = sorted(filter(is_folder, listed(path))) if is_folder(path) else []
    names = [one.name for one in places if is_there(RunFolder(result_folder(one)).ledger)]
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def no_run(path: Path, fix: str = "Name the folder of a run.") -> NoRunError:
    """The refusal of what is no run folder.

    Args:
        path: What was named.
        fix: What else to do, where it does not hold runs.
    """
    if not is_folder(path):
        what = "is a file, not a run folder" if is_there(path) else "does not exist"
        return NoRunError(what, where=str(path), fix=fix)
    below = runs_below(path)
    what = f"no ledger.jsonl in this folder{f', but runs: {below}' if below else ''}"
    return NoRunError(what, where=str(path), fix="Name one of them." if below else fix)

"""Whose code failed: the document, function, file and line behind an error of a task."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lm_eval

import evomerge
from evomerge.errors import EvaluationError, EvomergeError, told

_OWN = str(Path(evomerge.__file__).parent)
# Tasks that lm-eval brings are tasks; whatever else is installed only does what it is asked to.
_TASKS = str(Path(lm_eval.__file__).parent / "tasks")
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


@contextmanager
def blamed(task: str, doing: str) -> Iterator[None]:
    """Turns whatever code of a task raises into an error that says where it did.

    Args:
        task: Name of the task.
        doing: What its code was asked for, and of which document.

    Raises:
        EvaluationError: names task, document, function, file and line.
    """
    try:
        yield
    except EvomergeError:
        raise
    # Metrics, filters and aggregations are anybody's code, and some call exit().
    except (Exception, SystemExit) as error:
        raise EvaluationError(f"task {task!r}, {doing}: {whereabouts(error)}") from error


def whereabouts(error: BaseException) -> str:
    """``KeyError: 'gold', in grade (tasks/judge.py:15)``: the error and who raised it.

    That is the innermost function of a task; one of a library where no task is on the way.
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not _is_below(frame.filename, _OWN)
    ]
    of_tasks = [frame for frame in frames if _is_task(frame.filename)]
    culprit = next(reversed(of_tasks or frames), None)
    if culprit is None:
        return told(error)
    return f"{told(error)}, in {culprit.name} ({_shown(culprit.filename)}:{culprit.lineno})"


def _is_task(file: str) -> bool:
    is_installed = any(_is_below(file, place) for place in _INSTALLED)
    return _is_below(file, _TASKS) or not is_installed


def _is_below(file: str, folder: str) -> bool:
    return file.startswith(folder + os.sep)


def _shown(file: str) -> str:
    """The file as seen from here, where it lies below."""
    here = os.getcwd() + os.sep
    return file.removeprefix(here)

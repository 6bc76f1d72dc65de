"""Whose code failed: the document, function, file and line behind an error of a task."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import lm_eval

import evomerge
from evomerge.foundations.errors import EvaluationError, EvomergeError, told

_OWN = str(Path(evomerge.__file__).parent)
# Tasks that lm-eval brings are tasks; whatever else is installed only does what it is asked to.
_TASKS = str(Path(lm_eval.__file__).parent / "tasks")
_TEMPLATE = "<template>"  # what Jinja calls the file of a text
T = TypeVar("T")
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


def of_each(
    task: str, function: Callable[[Any], T], documents: Iterable[tuple[int, Any]]
) -> list[T]:
    """What a task's own code makes of documents, each with its number.

    Raises:
        EvaluationError: names the document that it failed on.
    """
    found = []
    for doc_id, document in documents:
        with blamed(task, f"document {doc_id}"):
            found.append(function(document))
    return found


def prompt_of(error: BaseException, number: Callable[[int], int]) -> str:
    """``document 3, an example in its prompt, ``: whose prompt lm-eval was building; else "".

    Args:
        error: What came out of its ``build_all_requests``.
        number: Place among the documents chosen -> number of a document.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    building = _last(frames, "build_all_requests")
    position = None if building is None else building.f_locals.get("doc_id")
    if not isinstance(position, int):
        return ""
    example = _last(frames, "fewshot_context")
    known = None if example is None else example.f_locals.get("fs_doc")
    is_example = known is not None and any(
        frame.f_locals.get("doc") is known for frame in frames if frame is not example
    )
    return f"document {number(position)}, {'an example in its prompt, ' if is_example else ''}"


def _last(frames: Sequence[FrameType], name: str) -> FrameType | None:
    return next((frame for frame in reversed(frames) if frame.f_code.co_name == name), None)


def whereabouts(error: BaseException) -> str:
    """``KeyError: 'gold', in grade (tasks/judge.py:15)``: the error and who raised it.

    That is the innermost function of a task, or the key of its YAML that lm-eval was reading; one
    of a library where neither is on the way.
    """
    trace = traceback.extract_tb(error.__traceback__)
    frames = [
        frame
        for frame in trace
        if not frame.filename.startswith("<") and not _is_below(frame.filename, _OWN)
    ]
    of_tasks = [frame for frame in frames if _is_task(frame.filename)]
    key = "" if of_tasks else _key(trace)
    if key:
        return f"{told(error)}, in {key}"
    culprit = next(reversed(of_tasks or frames), None)
    if culprit is None:
        return told(error)
    return f"{told(error)}, in {culprit.name} ({_shown(culprit.filename)}:{culprit.lineno})"


def _key(trace: Sequence[traceback.FrameSummary]) -> str:
    """The key of a task's YAML that was read, and the line where it is a template; else ""."""
    names = [frame.name for frame in trace if frame.name.startswith("doc_to_")]
    lines = [frame.lineno for frame in trace if frame.filename == _TEMPLATE]
    if lines:
        return f"the template of {names[-1] if names else 'its YAML'}, line {lines[-1]}"
    return names[-1] if names else ""


def _is_task(file: str) -> bool:
    is_installed = any(_is_below(file, place) for place in _INSTALLED)
    return _is_below(file, _TASKS) or not is_installed


def _is_below(file: str, folder: str) -> bool:
    return file.startswith(folder + os.sep)


def _shown(file: str) -> str:
    """The file as seen from here, where it lies below."""
    here = os.getcwd() + os.sep
    return file.removeprefix(here)

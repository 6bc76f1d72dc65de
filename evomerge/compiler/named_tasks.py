"""What names on the command line stand for as tasks: lm-eval's own, files, folders, other kinds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evomerge.compiler.task_kinds import given_in, mistakes_in
from evomerge.evaluators import EVALUATORS
from evomerge.foundations.errors import EvomergeError, Problem
from evomerge.foundations.reading import is_file, is_folder, read_bytes
from evomerge.genome.task_blocks import NAMED, Task

OPTION = "--tasks"
_DEFINED = re.compile(
    r"^(task|group):[ \t]*['\"]?([^\s'\"#\[{]+)['\"]?[ \t]*(?:#.*)?$", re.MULTILINE
)
_COMMAS = re.compile(r",(?![^{}]*\})")  # none of those in braces
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class NamedTasks:
    """Tasks, and where their definitions are.

    Attributes:
        tasks: As a genome would have them.
        search_path: Folders of files that were named, to be looked into before lm-eval's own.
        problems: What is wrong with any of the names.
    """

    tasks: tuple[Task, ...]
    search_path: tuple[str, ...]
    problems: tuple[Problem, ...]


def named_tasks(names: Sequence[str], settings: dict[str, Any]) -> NamedTasks:
    """The tasks that texts stand for.

    Args:
        names: Each ``mmlu``, ``tasks/own.yaml``, ``tasks/own`` (every task in the folder), or
            ``KIND=TEXT`` for a kind of another key, e.g. ``perplexity=text.txt`` or
            ``choice={file: mmlu.json, split: test}``; several with commas between them.
        settings: ``metric``, ``limit``, ``num_fewshot`` of all of them, as far as they are given.
    """
    tasks: list[Task] = []
    folders: list[str] = []
    problems: list[Problem] = []
    for name in filter(None, (part.strip() for text in names for part in _COMMAS.split(text))):
        try:
            for given, folder in _meant(name):
                problems += (replace(p, where=f"{OPTION} {p.where}") for p in mistakes_in(given))
                tasks.append(Task.model_validate({**given, **_read_by(given, settings)}))
                folders += [folder] if folder and folder not in folders else []
        except ValidationError as error:
            what = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            problems.append(Problem(what, f"{OPTION} {name}"))
        except EvomergeError as error:
            problems += [Problem(p.what, f"{OPTION} {name}", p.fix) for p in error.problems]
    if not tasks and not problems:
        problems.append(Problem("names no task", OPTION, "Name one, e.g. arc_easy."))
    twice = {task.name: None for task in tasks if [t.name for t in tasks].count(task.name) > 1}
    problems += [Problem("stands there twice", f"{OPTION} {name}", "Keep one.") for name in twice]
    return NamedTasks(tuple(tasks), tuple(folders), tuple(problems))


def _meant(name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Each task as a genome writes it, and the folder of its definition."""
    path, (kind, equals, text) = Path(name), name.partition("=")
    if equals and kind != NAMED:
        EVALUATORS[kind]  # refuses what is none
        yield {kind: given_in(text)}, ""
    elif is_folder(path):
        files = (file for file in sorted(path.rglob("*")) if file.suffix in _YAML)
        own = [own for file in files for key, own in _defined(file) if key == "task"]
        if not own:
            raise EvomergeError("no YAML in this folder defines a task", fix="Name another.")
        yield from (({NAMED: one}, name) for one in own)
    elif path.suffix in _YAML or (len(path.parts) > 1 and is_file(path)):
        defined = [own for _, own in _defined(path)] if is_file(path) else []
        if not defined:
            what = "defines no task or group" if is_file(path) else "there is no such file"
            raise EvomergeError(what, fix="Name a file with `task:` or `group:`.")
        yield {NAMED: defined[0]}, str(path.parent)
    else:
        yield {NAMED: name}, ""


def _defined(file: Path) -> Iterator[tuple[str, str]]:
    """What a file of lm-eval's form defines, group before task; its tags and code are not read."""
    found = _DEFINED.findall(read_bytes(file).decode(errors="replace"))
    yield from sorted(found, key=lambda one: one[0] != "group")


def _read_by(given: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the settings that tasks of the kind read."""
    if not settings:  # who asks a kind loads it, and lm-eval with it
        return {}
    reads = EVALUATORS[next(iter(given))].reads
    return {key: value for key, value in settings.items() if key in reads and value is not None}

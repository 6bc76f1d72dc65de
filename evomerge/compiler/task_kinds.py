"""What a genome says of its tasks, against the kinds of tasks in the table of evaluators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml
from pydantic import ValidationError

from evomerge.evaluators import EVALUATORS
from evomerge.foundations.errors import Problem
from evomerge.genome.load import problems_of
from evomerge.genome.misfit import KeyPath
from evomerge.genome.schema import Genome
from evomerge.genome.source import parse_yaml
from evomerge.genome.task_blocks import NAMED, Task
from evomerge.genome.words import SPLITS
from evomerge.genome.yaml_file import YamlFile

# Keys of a task that not every kind has a use for.
_FOR_SOME = ("metric", "limit", "num_fewshot", "samples", "language")


def task_problems(source: YamlFile) -> list[Problem]:
    """Mistakes that only the kind of a task knows.

    What the schema complains of is left to it, and nothing is imported for tasks that go by a
    name: these have no settings under it.
    """
    return [
        problem
        for split in SPLITS
        if isinstance(source.data.get(split), list)
        for index, given in enumerate(source.data[split])
        for problem in _of_task(given, (split, index), source)
    ]


def unallowed(genome: Genome, source: YamlFile) -> Iterator[Problem]:
    """Tasks that ``--allow-code`` alone has run; nothing but their kind is looked at."""
    for split in SPLITS:
        for index, task in enumerate(genome.split(split)):
            if task.kind != NAMED and EVALUATORS[task.kind].runs_code:
                where = source.where((split, index, task.kind))
                what = "would run code, which needs permission"
                yield Problem(what, where, "Add --allow-code if you trust it.")


def mistakes_in(task: Mapping[str, Any]) -> list[Problem]:
    """The same of a single task that stands in no file, each at its key, e.g. ``exact.file``."""
    alone = "tasks[0]."
    found = task_problems(parse_yaml(yaml.safe_dump({"tasks": [dict(task)]}), "task"))
    return [replace(one, where=one.where.partition(alone)[2]) for one in found]


def given_in(text: str) -> Any:
    """What stands under a kind's key, of a text: a mapping in braces, a list in brackets.

    Raises:
        GenomeError: what is in braces or brackets is no YAML.
    """
    text = text.strip()
    if text[:1] + text[-1:] in ("{}", "[]"):
        return parse_yaml(f"given: {text}", text).data["given"]
    return text


def _of_task(given: object, path: KeyPath, source: YamlFile) -> Iterator[Problem]:
    try:
        task = Task.model_validate(given)
    except ValidationError:
        return
    if task.kind == NAMED:
        return
    place = (*path, task.kind)
    if task.kind not in EVALUATORS:
        yield EVALUATORS.missing(task.kind, source.where(place))
        return
    evaluator = EVALUATORS[task.kind]
    try:
        evaluator.Settings.model_validate(task.given)
    except ValidationError as error:
        yield from problems_of(error, source, evaluator.Settings, place)
    for key in _FOR_SOME:
        if key not in evaluator.reads and getattr(task, key) is not None:
            what = f"a task of {task.kind!r} has no {key}"
            has_own = key in evaluator.Settings.model_fields
            fix = f"Write it under {task.kind}." if has_own else "Leave it out."
            yield Problem(what, source.where((*path, key)), fix)

"""What the first documents of each task tell: its metrics' names, and whether its code runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evomerge.errors import EvaluationError, Problem
from evomerge.evaluators.lm_eval import metrics
from evomerge.evaluators.lm_eval.requests import Responses
from evomerge.evaluators.lm_eval.scoring import key_of, results_of
from evomerge.evaluators.lm_eval.tasks import Entry
from evomerge.trial import Metric

# Documents looked at; more only where one does not tell: a metric may be given for some of them.
LOOKED_AT = (1, 16)


def settled(
    entries: Sequence[Entry], responses: Responses
) -> tuple[list[Entry], list[Metric], list[Problem]]:
    """Entries whose metrics are what their results call them.

    Args:
        entries: As their YAML has them.
        responses: To the first documents of each.

    Returns:
        The entries and their metrics, and what is wrong with the others.
    """
    known: list[Entry] = []
    values: list[Metric] = []
    problems: list[Problem] = []
    for position, entry in enumerate(entries):
        found = _settled(entry, responses, f"tasks[{position}]")
        if isinstance(found, Problem):
            problems.append(found)
            known.append(entry)
        else:
            known.append(_named(entry, found))
            values.append(found)
    return known, values, problems


def _settled(entry: Entry, responses: Responses, where: str) -> Metric | Problem:
    try:
        results = results_of(entry, responses, [])
    except EvaluationError as error:
        fix = "Mend the task; where it asks what is out of reach, run again when it is there."
        return Problem(error.problems[0].what, where, fix)
    key = key_of(entry, results.given, where)
    if isinstance(key, Problem):
        return key
    metric = results.found.get(key)
    if metric is not None:
        return metric
    tasks: list[Any] = [leaf.task for leaf in entry.leaves]
    if metrics.direction(tasks, key.metric) is None:
        return metrics.undirected(entry.key.task, key.metric, where)
    what = f"task {entry.key.task!r} gives {key.metric!r} as something that is no number"
    return Problem(what, f"{where}.metric", "Mend the metric's aggregation.")


def _named(entry: Entry, metric: Metric) -> Entry:
    """The entry with what its results say of its metric."""
    better = metric.higher_is_better
    return replace(entry, key=metric.key, higher_is_better=better, is_known=True)

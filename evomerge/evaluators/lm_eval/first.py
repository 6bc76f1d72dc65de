"""What the first documents of each task tell: its metrics' names, and whether its code runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evomerge.errors import EvaluationError, Problem
from evomerge.evaluators.lm_eval import metrics
from evomerge.evaluators.lm_eval.facts import part_facts
from evomerge.evaluators.lm_eval.requests import Responses
from evomerge.evaluators.lm_eval.scoring import key_of, results_of
from evomerge.evaluators.lm_eval.tasks import Entry
from evomerge.trial import Metric, MetricKey

# Documents looked at; more only where one does not tell: a metric may be given for some of them.
# Each twice: a judge that is asked over a network fails now and then.
LOOKED_AT = (1, 1, 16, 16)


def settled(
    entries: Sequence[Entry], responses: Responses, *, is_last: bool
) -> tuple[list[Entry], list[Metric], list[Problem]]:
    """Entries whose metrics are what their results call them.

    Args:
        entries: As their YAML has them.
        responses: To the first documents of each.
        is_last: Whether no more documents will be looked at: what these lack and the YAML names
            is taken from there, as long as there are others that may give it.

    Returns:
        The entries and their metrics, and what is wrong with the others.
    """
    known: list[Entry] = []
    values: list[Metric] = []
    problems: list[Problem] = []
    for position, entry in enumerate(entries):
        found = _settled(entry, responses, f"tasks[{position}]", is_last)
        if isinstance(found, Problem):
            problems.append(found)
            known.append(entry)
        else:
            known.append(named(entry, found.key))
            values.append(found)
    return known, values, problems


def named(entry: Entry, key: MetricKey) -> Entry:
    """The entry with the metric that its results name, and what the task says of that."""
    tasks: list[Any] = [leaf.task for leaf in entry.leaves]
    better = metrics.direction(tasks, key.metric)
    if better is None:
        better = entry.higher_is_better
    return replace(entry, key=key, higher_is_better=better, is_known=True, is_settled=True)


def _settled(entry: Entry, responses: Responses, where: str, is_last: bool) -> Metric | Problem:
    try:
        results = results_of(entry, responses, [], is_sample=True)
    except EvaluationError as error:
        fix = "Mend the task; where it asks what is out of reach, run again when it is there."
        return Problem(error.problems[0].what, where, fix)
    key = key_of(entry, results.given, where)
    if isinstance(key, Problem):
        if is_last and entry.is_known and _may_come_later(entry):
            return Metric(entry.key, math.nan, None, 0, entry.higher_is_better)
        return key
    metric = results.found.get(key)
    if metric is not None:
        return metric
    tasks: list[Any] = [leaf.task for leaf in entry.leaves]
    if metrics.direction(tasks, key.metric) is None:
        return metrics.undirected(entry.key.task, key.metric, where)
    what = f"task {entry.key.task!r} gives {key.metric!r} as something that is no number"
    return Problem(what, f"{where}.metric", "Mend the metric's aggregation.")


def _may_come_later(entry: Entry) -> bool:
    """Whether a document that was not looked at may give a metric that the others lack."""
    return any(
        metrics.is_per_document(leaf.task)
        and part_facts(leaf).n_documents > len({one.doc_id for one in leaf.task.instances})
        for leaf in entry.leaves
    )

"""What the first documents of each task tell: its metrics' names, and whether its code runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.evaluators.lm_eval import metrics
from evomerge.evaluators.lm_eval.lm_eval_tasks import TaskEntry
from evomerge.evaluators.lm_eval.own_facts import part_facts
from evomerge.evaluators.lm_eval.requests import Responses
from evomerge.evaluators.lm_eval.scoring import key_of, results_of
from evomerge.foundations.errors import EvaluationError, GenomeError, Problem
from evomerge.nouns.evaluation import Metric, MetricKey

# Documents looked at; more only where one does not tell: a metric may be given for some of them.
LOOKED_AT = (1, 16)
TRIES = 4  # of code that fails: a judge that is asked over a network does now and then

Settled = tuple[TaskEntry, Metric]  # an entry with the name of its metric, and that metric
Ask = Callable[[int], Responses]  # a model's responses to the first so many documents of each task


@dataclass(frozen=True)
class Unsettled:
    """What is wrong with an entry.

    Attributes:
        problem: What to say of it.
        is_failure: Whether code of the task failed, which may succeed the next time.
    """

    problem: Problem
    is_failure: bool = False


def settled(entries: Sequence[TaskEntry], ask: Ask) -> list[Settled]:
    """Entries whose metrics are what their results call them, each as soon as one try tells.

    Args:
        entries: As their YAML has them.
        ask: Builds the requests of the entries and has them answered.

    Raises:
        GenomeError: a prompt cannot be built; or the metric of an entry is not told, or its code
            failed, however often tried.
    """
    known: dict[int, Settled] = {}
    for n_documents in LOOKED_AT:
        is_last = n_documents == LOOKED_AT[-1]
        for n_tries in range(1, TRIES + 1):
            wrong: dict[int, Unsettled] = {}
            try:
                responses = ask(n_documents)
            except GenomeError:  # code of a task builds the prompts
                if n_tries == TRIES:
                    raise
                continue
            for position, entry in enumerate(entries):
                if position not in known:
                    found = _settled(entry, responses, f"tasks[{position}]", is_last)
                    if isinstance(found, Unsettled):
                        wrong[position] = found
                    else:
                        known[position] = (named(entry, found.key), found)
            if not wrong:
                return [known[position] for position in range(len(entries))]
            if not any(one.is_failure for one in wrong.values()):
                break
        if is_last or any(one.is_failure for one in wrong.values()):
            break
    raise GenomeError.of(one.problem for one in wrong.values())


def named(entry: TaskEntry, key: MetricKey) -> TaskEntry:
    """The entry with the metric that its results name, and what the task says of that."""
    tasks: list[Any] = [leaf.task for leaf in entry.leaves]
    better = metrics.direction(tasks, key.metric)
    if better is None:
        better = entry.higher_is_better
    return replace(entry, key=key, higher_is_better=better, is_known=True, is_settled=True)


def _settled(
    entry: TaskEntry, responses: Responses, where: str, is_last: bool
) -> Metric | Unsettled:
    try:
        results = results_of(entry, responses, [], is_sample=True)
    except EvaluationError as error:
        fix = "Mend the task; where it asks what is out of reach, run again when it is there."
        return Unsettled(Problem(error.problems[0].what, where, fix), is_failure=True)
    key = key_of(entry, results.given, where)
    if isinstance(key, Problem):
        if is_last and entry.is_known and _may_come_later(entry):
            return Metric(entry.key, math.nan, None, 0, entry.higher_is_better)
        return Unsettled(key)
    metric = results.found.get(key)
    if metric is not None:
        return metric
    tasks: list[Any] = [leaf.task for leaf in entry.leaves]
    if metrics.direction(tasks, key.metric) is None:
        return Unsettled(metrics.undirected(entry.key.task, key.metric, where))
    what = f"task {entry.key.task!r} gives {key.metric!r} as something that is no number"
    return Unsettled(Problem(what, f"{where}.metric", "Mend the metric's aggregation."))


def _may_come_later(entry: TaskEntry) -> bool:
    """Whether a document that was not looked at may give a metric that the others lack."""
    return any(
        metrics.is_per_document(leaf.task)
        and part_facts(leaf).n_documents > len({one.doc_id for one in leaf.task.instances})
        for leaf in entry.leaves
    )

"""One document of every task, scored before a run: what only results tell is known from then on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from evomerge.compiler.examine import Compiled
from evomerge.compiler.tasks import LoadedTasks
from evomerge.errors import EvomergeError, GenomeError, Problem, RunError
from evomerge.executors.base import Executor, Job, JobFinished
from evomerge.executors.worker import FIRST
from evomerge.findings import Finding, Severity
from evomerge.genome.source import Source
from evomerge.objective import Objective
from evomerge.preflight.tasks import directions
from evomerge.trial import Candidate, Evaluation, MetricKey, Outcome

Names = Mapping[str, Mapping[str, str]]  # split -> task -> "metric,filter"


def with_names(compiled: Compiled, names: Names) -> Compiled:
    """The same where the metric of each task has the name that its results gave it, and no other.

    Workers that are built from now on read it, and so do evaluators that are loaded already.
    """
    keys = {
        split: [_renamed(key, names.get(split, {})) for key in objective.keys]
        for split, objective in compiled.tasks.objectives.items()
    }
    for split, evaluator in compiled.tasks.evaluators.items():
        evaluator.settle(keys[split])
    findings = (*compiled.findings, *_told_late(compiled))
    return replace(compiled, tasks=_with_keys(compiled.tasks, keys), findings=findings)


def first_documents(
    compiled: Compiled, executor: Executor, candidates: Sequence[Candidate]
) -> dict[str, dict[str, str]]:
    """Scores one document of every task with the first of some candidates that can be scored.

    Args:
        compiled: What is to be searched.
        executor: Where.
        candidates: Models, as they are.

    Returns:
        Split -> task -> the metric's name as results have it; nothing where nothing was scored
        and every name is known without.

    Raises:
        GenomeError: a task's code fails, or its results lack the metric; all of them.
        RunError: nothing was scored, and only results tell the name of a metric.
    """
    failure = "the time of the search was over"
    for candidate in candidates:
        try:
            outcome = _outcome(executor, candidate, compiled.genome.optimizer.timeout)
        except GenomeError as error:
            raise located(error, compiled.source) from error
        if outcome is None:
            break
        if outcome.evaluation is not None:
            return _names(compiled, outcome.evaluation)
        failure = outcome.failure
    problems = list(_nameless(compiled, failure))
    if problems:
        raise RunError.of(map(compiled.source.locate, problems))
    return {}


def _told_late(compiled: Compiled) -> Iterator[Finding]:
    """Weights that turn a metric around whose direction was not known when the rules were run."""
    for finding in directions(compiled.subject):
        located = replace(finding, problem=compiled.source.locate(finding.problem))
        if finding.severity is Severity.WARNING and located not in compiled.findings:
            yield located


def _names(compiled: Compiled, evaluation: Evaluation) -> dict[str, dict[str, str]]:
    """The metric read from each task, as a ledger keeps it."""
    found = iter(metric.key for metric in evaluation.metrics)
    return {
        split: {k.task: f"{k.metric},{k.filter}" for k in islice(found, len(objective.keys))}
        for split, objective in compiled.tasks.objectives.items()
    }


def _nameless(compiled: Compiled, failure: str) -> Iterator[Problem]:
    """Tasks whose metric has no name unless a document of them was scored."""
    for split, evaluator in compiled.tasks.evaluators.items():
        for index, facts in enumerate(evaluator.facts()):
            if not facts.is_known:
                yield Problem(
                    f"only results of {facts.key.task!r} name its metric, and no model could be "
                    f"scored on its first document ({failure})",
                    f"{split}[{index}]",
                    "Mend what failed and run again.",
                )


def located(error: GenomeError, source: Source) -> EvomergeError:
    """The same with file and line of each key."""
    return GenomeError.of(source.locate(problem) for problem in error.problems)


def _outcome(executor: Executor, candidate: Candidate, timeout: float | None) -> Outcome | None:
    """What came of the first documents; None where the time of the search was over."""
    end = None if timeout is None else time.monotonic() + timeout
    for event in executor.run([Job(candidate, FIRST, end)]):
        if isinstance(event, JobFinished):
            return event.outcome
    return None


def _with_keys(tasks: LoadedTasks, keys: Mapping[str, Sequence[MetricKey]]) -> LoadedTasks:
    """The tasks with these metrics, for workers that are yet to be built as well."""
    splits = {
        split: tuple(
            task.model_copy(update={"metric": f"{key.metric},{key.filter}"})
            for task, key in zip(own, keys[split], strict=True)
        )
        for split, own in tasks.workshop.splits.items()
    }
    objectives = {
        split: Objective(objective.name, objective.tasks, keys[split])
        for split, objective in tasks.objectives.items()
    }
    return replace(tasks, workshop=replace(tasks.workshop, splits=splits), objectives=objectives)


def _renamed(key: MetricKey, names: Mapping[str, str]) -> MetricKey:
    if key.task not in names:
        return key
    metric, _, filter_name = names[key.task].rpartition(",")
    return MetricKey(key.task, metric, filter_name)

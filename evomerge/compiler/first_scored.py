"""One document of every task, scored before a run: what only results tell is known from then on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from evomerge.checks.task_rules import directions
from evomerge.compiler.compiled import Compiled
from evomerge.compiler.directions import turned
from evomerge.compiler.split_tasks import Names, with_names
from evomerge.executors.base import Executor, Job, JobFinished
from evomerge.executors.worker import FIRST
from evomerge.foundations.errors import EvomergeError, GenomeError, Problem, RunError
from evomerge.foundations.findings import Severity
from evomerge.genome.yaml_file import YamlFile
from evomerge.nouns.evaluation import Evaluation, Outcome
from evomerge.nouns.trial import Candidate


def settled(compiled: Compiled, names: Names) -> Compiled:
    """The same with the metrics that results named, and weights turned that these tell to turn.

    Its findings say of each weight what was not known when the rules were run.
    """
    now = turned(compiled.genome, compiled.source, with_names(compiled.tasks, names))
    context = replace(compiled.context, genome=now.genome)
    late = [*now.notes, *(f for f in directions(context) if f.severity is Severity.WARNING)]
    located = (replace(one, problem=now.source.locate(one.problem)) for one in late)
    new = (one for one in located if one not in compiled.findings)
    findings = (*compiled.findings, *new)
    return replace(compiled, context=context, source=now.source, tasks=now.tasks, findings=findings)


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


def located(error: GenomeError, source: YamlFile) -> EvomergeError:
    """The same with file and line of each key."""
    return GenomeError.of(source.locate(problem) for problem in error.problems)


def _outcome(executor: Executor, candidate: Candidate, timeout: float | None) -> Outcome | None:
    """What came of the first documents; None where the time of the search was over."""
    end = None if timeout is None else time.monotonic() + timeout
    for event in executor.run([Job(candidate, FIRST, end)]):
        if isinstance(event, JobFinished):
            return event.outcome
    return None

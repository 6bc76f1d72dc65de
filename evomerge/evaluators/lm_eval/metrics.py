"""Which metrics an lm-eval task can report, which one the user meant, which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.registry import metric_registry
from lm_eval.api.task import ConfigurableTask

from evomerge.foundations.errors import Problem, nearest

MetricFilter = tuple[str, str]  # lm-eval's metric name and filter name

DEFAULT: MetricFilter = ("acc", "none")


def reported_by(task: Any) -> list[MetricFilter]:
    """Every metric x filter of one lm-eval task, in its own order."""
    # No public name for the filters; `Task.apply_filters` runs exactly these.
    filters = [ensemble.name for ensemble in task._filters]
    return [(metric, name) for metric in task.aggregation() for name in filters]


def known() -> list[str]:
    """Metrics that lm-eval itself computes."""
    return sorted(metric_registry.keys())


def is_open(task: Any) -> bool:
    """Whether code of the task's own names its metrics, so that only its results tell them.

    `process_results` returns whatever it likes; so does a metric that is a function of the
    task's, one of Hugging Face's `evaluate`, and a task that is a class.
    """
    if is_per_document(task):
        return True
    own = task._metric_fn_list.values()  # no public name
    return any(function not in metric_registry.values() for function in own)


def is_per_document(task: Any) -> bool:
    """Whether code of the task's own says of each document which metrics it has."""
    return type(task) is not ConfigurableTask or task.config.process_results is not None


def not_found(task: Any) -> list[str]:
    """Metrics that a task names and that nothing computes."""
    if task.config.process_results is not None:
        return []
    # No public name; lm-eval logs an error, keeps None and fails in the first evaluation.
    functions = getattr(task, "_metric_fn_list", {})
    return [name for name, function in functions.items() if function is None]


def runs_code(task: Any) -> bool:
    """Whether scoring a task runs code that the model wrote: it says so, or its metric does."""
    says_so = bool(getattr(task, "UNSAFE_CODE", False))
    return says_so or "code_eval" in getattr(task, "_metric_fn_list", {})


def direction(tasks: Sequence[Any], metric: str) -> bool | None:
    """Whether higher is better, where every task that has the metric says so alike."""
    said = {task.higher_is_better().get(metric) for task in tasks if metric in task.aggregation()}
    only = said.pop() if len(said) == 1 else None
    return only if isinstance(only, bool) else None


def likely_direction(tasks: Sequence[Any]) -> bool:
    """The direction of what a task's code will name: that of all it declares, else upwards."""
    said = {each for task in tasks for each in task.higher_is_better().values()}
    return said != {False}


def undirected(task: str, metric: str, where: str) -> Problem:
    """What to say of a metric whose task does not say which way is better."""
    return Problem(
        f"task {task!r} does not say whether a higher {metric!r} is better",
        f"{where}.metric",
        "Add `higher_is_better` to the metric in the task's YAML.",
    )


def choose(
    requested: str | None,
    reported: Sequence[MetricFilter],
    *,
    task: str,
    where: str,
    says: str = "has",
) -> MetricFilter | Problem:
    """The metric a user meant.

    Args:
        requested: ``"metric"``, ``"metric,filter"`` or None for the default: ``acc,none``
            where the task has it, else its only metric.
        reported: What the task can report.
        task: Task name, for the message.
        where: Key path of the task in the genome.
        says: How the task tells them, for the message: it "has" them, or "gives" them.
    """
    names = [f"{metric},{name}" for metric, name in reported]
    listed = ", ".join(names) or "none"
    fix = "Write one of them as `metric`." if names else ""
    if requested is None:
        if DEFAULT in reported:
            return DEFAULT
        if len(reported) == 1:
            return reported[0]
        several = f"{says} several: {listed}" if names else f"{says} none"
        return Problem(f"no metric given and {task!r} {several}", where, fix)
    metric, name = split_name(requested)
    matches = [pair for pair in reported if pair[0] == metric and name in ("", pair[1])]
    if len(matches) == 1:
        return matches[0]
    where = f"{where}.metric"
    if matches:
        listed = ", ".join(f"{metric},{name}" for metric, name in matches)
        return Problem(f"{requested!r} has several filters in {task!r}: {listed}", where, fix)
    hint = nearest(requested, names) or nearest(metric, [pair[0] for pair in reported])
    return Problem(
        f"task {task!r} {says} no metric {requested!r}{hint} (it {says}: {listed})", where
    )


def expected(requested: str | None, reported: Sequence[MetricFilter]) -> MetricFilter:
    """What stands for the metric of an open task until its first document tells its name."""
    first = reported[0] if reported else DEFAULT
    metric, name = split_name(requested or first[0])
    return metric, name or first[1]


def split_name(text: str) -> tuple[str, str]:
    """``"metric,filter"`` as its two parts; the filter may be empty."""
    metric, _, name = (part.strip() for part in text.partition(","))
    return metric, name

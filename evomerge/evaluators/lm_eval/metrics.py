"""Which metrics an lm-eval task can report, which one the user meant, which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.registry import metric_registry

from evomerge.errors import Problem, nearest

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


def choose(
    requested: str | None, reported: Sequence[MetricFilter], *, task: str, where: str
) -> MetricFilter | Problem:
    """The metric a user meant.

    Args:
        requested: ``"metric"``, ``"metric,filter"`` or None for the default: ``acc,none``
            where the task has it, else its only metric.
        reported: What the task can report.
        task: Task name, for the message.
        where: Key path of the task in the genome.
    """
    names = [f"{metric},{name}" for metric, name in reported]
    listed = ", ".join(names) or "none"
    fix = "Write one of them as `metric`."
    if requested is None:
        if DEFAULT in reported:
            return DEFAULT
        if len(reported) == 1:
            return reported[0]
        return Problem(f"no metric given and {task!r} has several: {listed}", where, fix)
    metric, _, name = (part.strip() for part in requested.partition(","))
    matches = [pair for pair in reported if pair[0] == metric and name in ("", pair[1])]
    if len(matches) == 1:
        return matches[0]
    where = f"{where}.metric"
    if matches:
        listed = ", ".join(f"{metric},{name}" for metric, name in matches)
        return Problem(f"{requested!r} has several filters in {task!r}: {listed}", where, fix)
    hint = nearest(requested, names) or nearest(metric, [pair[0] for pair in reported])
    return Problem(f"task {task!r} has no metric {requested!r}{hint} (it has: {listed})", where)

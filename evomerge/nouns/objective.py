"""Metrics -> scores with their standard errors -> losses; the only place where a sign turns.

A score is higher-is-better, a loss lower-is-better; ``inf`` is a failed trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.errors import EvaluationError
from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey, Outcome

OBJECTIVES: Mapping[str, str] = {
    "weighted_sum": "sum of weight times score over the tasks, divided by the sum of |weight|",
    "normalized": "weighted mean of scores, each scaled from the base (0) to the best parent (1)",
    "worst": "the lowest task score",
    "harmonic_mean": "weighted harmonic mean of the task scores; one poor task pulls it down",
    "per_task": "each task an objective of its own",
}


@dataclass(frozen=True)
class Score:
    """What people see: higher is better.

    Attributes:
        value: The number.
        stderr: Its standard error, documents of different tasks taken as independent; None
            where a task gives none.
        n: Documents behind it.
    """

    value: float
    stderr: float | None
    n: int


@dataclass(frozen=True)
class Anchor:
    """Scores of one task that ``normalized`` maps to 0 and 1."""

    zero: float
    one: float


class Objective:
    """The rule that turns an evaluation into one score or several.

    Args:
        name: One of ``OBJECTIVES``.
        tasks: The search tasks.
        keys: The metric read from each task, in their order.
        anchors: Per task, for ``normalized`` only; see :meth:`with_anchors`.
    """

    def __init__(
        self,
        name: str,
        tasks: Sequence[Task],
        keys: Sequence[MetricKey],
        anchors: Sequence[Anchor] = (),
    ) -> None:
        self.name = name
        self.tasks = tuple(tasks)
        self.keys = tuple(keys)
        self.anchors = tuple(anchors)

    @property
    def n_objectives(self) -> int:
        """How many losses a trial has."""
        return len(self.tasks) if self.name == "per_task" else 1

    @property
    def labels(self) -> tuple[str, ...]:
        """What each loss is of."""
        return tuple(t.name for t in self.tasks) if self.name == "per_task" else (self.name,)

    def with_anchors(self, base: Evaluation | None, parents: Sequence[Evaluation]) -> Objective:
        """The objective once base and parents are known.

        Where no base was scored, 0 is the worst parent. A task on which the best parent is no
        better than the base cannot be scaled and is left as it is, shifted so that the base
        is 0.
        """
        if self.name != "normalized" or not parents:
            return self
        anchors = []
        for index in range(len(self.tasks)):
            ones = [self.task_scores(parent)[index].value for parent in parents]
            zero = self.task_scores(base)[index].value if base else min(ones)
            anchors.append(Anchor(zero, max(ones) if max(ones) > zero else zero + 1.0))
        return Objective(self.name, self.tasks, self.keys, anchors)

    def metric(self, evaluation: Evaluation, index: int) -> Metric:
        """The metric read from task ``index``.

        Raises:
            EvaluationError: the evaluation lacks it.
        """
        for metric in evaluation.metrics:
            if metric.key == self.keys[index]:
                return metric
        raise EvaluationError(f"the evaluation reports no {self.keys[index]}")

    def task_scores(self, evaluation: Evaluation) -> tuple[Score, ...]:
        """One score per task, turned so that higher is better."""
        scores = []
        for index in range(len(self.keys)):
            metric = self.metric(evaluation, index)
            sign = 1.0 if metric.higher_is_better else -1.0
            scores.append(Score(sign * metric.value, metric.stderr, metric.n))
        return tuple(scores)

    def scores(self, evaluation: Evaluation) -> tuple[Score, ...]:
        """The score of each objective; NaN where it stands on a task without a finite score."""
        return self.combine(self.task_scores(evaluation))

    def combine(self, parts: Sequence[Score]) -> tuple[Score, ...]:
        """The score of each objective from one score per task.

        A task of weight 0 is watched and takes no part: not by its value, its documents or a
        standard error that it has not.
        """
        if self.name == "per_task":
            return tuple(parts)
        if self.name == "normalized" and self.anchors:
            parts = [_scaled(*pair) for pair in zip(parts, self.anchors, strict=True)]
        parts, weights = self._counting(parts)
        if not all(math.isfinite(part.value) for part in parts):
            return (Score(math.nan, None, sum(part.n for part in parts)),)
        if self.name == "worst":
            return (min(parts, key=lambda score: score.value),)
        if self.name == "harmonic_mean":
            return (_harmonic(parts, weights),)
        return (_weighted(parts, weights),)

    def losses(self, outcome: Outcome) -> NDArray[np.float64]:
        """Shape (n_objectives,); ``inf`` where the trial failed or a score is not finite."""
        if outcome.evaluation is None:
            return np.full(self.n_objectives, np.inf)
        values = [-score.value for score in self.scores(outcome.evaluation)]
        return np.array([v if math.isfinite(v) else math.inf for v in values], dtype=np.float64)

    @property
    def slopes(self) -> tuple[tuple[float, ...], ...] | None:
        """What each objective gains per unit of each task score; None where that is no constant.

        Shape (n_objectives, n_tasks). Anchors of ``normalized`` are taken as known exactly.
        """
        if self.name == "per_task":
            n = len(self.tasks)
            return tuple(tuple(float(j == i) for j in range(n)) for i in range(n))
        if self.name not in ("weighted_sum", "normalized"):
            return None
        shares = self._shares()
        if self.name == "normalized" and self.anchors:
            shares = [s / (a.one - a.zero) for s, a in zip(shares, self.anchors, strict=True)]
        return (tuple(shares),)

    def counts(self, index: int) -> bool:
        """Whether a task has a say in what is searched for."""
        return self.name == "per_task" or self.tasks[index].weight != 0

    def _counting(self, parts: Sequence[Score]) -> tuple[list[Score], list[float]]:
        """The scores of the tasks that count, and their weights."""
        counting = [index for index in range(len(self.tasks)) if self.counts(index)]
        return [parts[i] for i in counting], [self.tasks[i].weight for i in counting]

    def _shares(self) -> list[float]:
        return _shares([task.weight for task in self.tasks])


def _scaled(part: Score, anchor: Anchor) -> Score:
    span = anchor.one - anchor.zero
    stderr = None if part.stderr is None else part.stderr / span
    return replace(part, value=(part.value - anchor.zero) / span, stderr=stderr)


def _shares(weights: Sequence[float]) -> list[float]:
    total = sum(map(abs, weights))
    return [weight / total for weight in weights]


def _weighted(parts: Sequence[Score], weights: Sequence[float]) -> Score:
    shares = _shares(weights)
    value = sum(share * part.value for share, part in zip(shares, parts, strict=True))
    return Score(value, _combined(shares, parts), sum(part.n for part in parts))


def _harmonic(parts: Sequence[Score], weights: Sequence[float]) -> Score:
    n = sum(part.n for part in parts)
    if any(part.value <= 0 for part in parts):
        return Score(0.0, None, n)
    shares = _shares(weights)
    value = 1.0 / sum(share / part.value for share, part in zip(shares, parts, strict=True))
    slopes = [s * (value / part.value) ** 2 for s, part in zip(shares, parts, strict=True)]
    return Score(value, _combined(slopes, parts), n)


def _combined(slopes: Sequence[float], parts: Sequence[Score]) -> float | None:
    """Standard error of a smooth function of independent scores (delta method)."""
    errors = [part.stderr for part in parts]
    if any(error is None for error in errors):
        return None
    # Not the root of a sum of squares, which overflows where the error does not.
    return math.hypot(*(s * (e or 0.0) for s, e in zip(slopes, errors, strict=True)))

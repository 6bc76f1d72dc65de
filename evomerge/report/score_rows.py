"""Scores of several models on the same tasks as rows: tasks, groups, what is inside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.evaluators.base import Evaluator
from evomerge.evaluators.task_facts import GroupFacts, TaskFacts
from evomerge.foundations.seeding import stream
from evomerge.genome.task_blocks import Task
from evomerge.nouns.comparison import Comparison, compare
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.score_text import rounded, score_content
from evomerge.run.side_by_side import EntrantScores

BY_TASKS, BY_DOCUMENTS = "mean of its tasks", "mean of its documents"


@dataclass(frozen=True)
class ScoreRow:
    """One task, group or part of one.

    Attributes:
        name: Task or group; of a second mean of a group what it is.
        depth: Groups that it is in.
        key: What is measured.
        higher_is_better: Direction of the metric.
        scores: One per model, in the metric's own unit; None where there is none.
        gains: Likewise, against the first model: above 0 is better. None for that one itself.
    """

    name: str
    depth: int
    key: MetricKey
    higher_is_better: bool
    scores: tuple[Score | None, ...]
    gains: tuple[Comparison | None, ...]

    @property
    def n(self) -> int:
        """Documents behind it."""
        return next((score.n for score in self.scores if score is not None), 0)

    @property
    def sign(self) -> int:
        """What turns a gain into a difference of the metric's own numbers, and back."""
        return 1 if self.higher_is_better else -1


@dataclass(frozen=True)
class _Wanted:
    """A row to be: what its documents are called, and how its score is made of its parts."""

    name: str
    depth: int
    parts: tuple[str, ...]
    is_by_size: bool | None  # None: it is a metric of its own


def all_rows(evaluators: Mapping[str, Evaluator], found: Sequence[EntrantScores]) -> list[ScoreRow]:
    """The rows of every task.

    Args:
        evaluators: Task -> what scored it alone.
        found: What came of each model.
    """
    rows: list[ScoreRow] = []
    for task, evaluator in evaluators.items():
        (facts,) = evaluator.facts()
        rows += score_rows(facts, [one.evaluation(task) for one in found], evaluator.seed)
    return rows


def score_rows(
    facts: TaskFacts, evaluations: Sequence[Evaluation | None], seed: int = 0
) -> list[ScoreRow]:
    """The rows of one task, or of a group and everything in it.

    A group has both means: over all documents (micro) and over its tasks (macro), the one that
    lm-eval reports first. Groups inside it have the one that lm-eval reports.

    Args:
        facts: Of the task.
        evaluations: One per model, None where it has none; the first metric is the task's own.
        seed: Of documents drawn anew, where a difference has no formula.
    """
    there = next((one for one in evaluations if one is not None), None)
    if there is None:
        return []
    key = there.metrics[0].key  # as results name it
    found = []
    for wanted in _wanted(facts):
        sides = [None if one is None else _side(one, wanted, key) for one in evaluations]
        row = _row(wanted, key, sides, seed)
        if row is not None:
            found.append(row)
    return found


def _wanted(facts: TaskFacts) -> Iterator[_Wanted]:
    own = tuple(part.name for part in facts.parts)
    if not facts.groups:
        yield _Wanted(facts.key.task, 0, own, None)
        return
    whole = facts.groups[0]
    yield _Wanted(whole.name, 0, own, None)
    if len(own) > 1:
        other = BY_TASKS if whole.is_by_size else BY_DOCUMENTS
        yield _Wanted(other, 1, own, not whole.is_by_size)
    for group in facts.groups:
        depth = sum(set(group.parts) < set(other.parts) for other in facts.groups)
        is_shown = len(group.parts) > 1
        if group is not whole and is_shown:
            yield _Wanted(group.name, depth, group.parts, group.is_by_size)
        for name in own:
            if _home(name, facts.groups) is group and len(own) > 1:
                yield _Wanted(name, depth + is_shown, (name,), True)


def _home(part: str, groups: Sequence[GroupFacts]) -> GroupFacts:
    """The smallest group that a part is in; the whole where none says so."""
    holding = [group for group in groups if part in group.parts]
    return min(holding, key=lambda group: len(group.parts), default=groups[0])


def _side(evaluation: Evaluation, wanted: _Wanted, key: MetricKey) -> Evaluation | None:
    """What one model's row stands on: one metric and its documents; None where it has none."""
    documents = tuple(_of(evaluation.documents, wanted.parts))
    if wanted.is_by_size is None:
        return Evaluation((evaluation.metrics[0],), documents)
    by_key = {metric.key: metric for metric in evaluation.metrics}
    metrics = [by_key.get(replace(key, task=part)) for part in wanted.parts]
    there = [metric for metric in metrics if metric is not None]
    if len(there) < len(wanted.parts):
        return None
    metric = _mean(there, is_by_size=wanted.is_by_size)
    return Evaluation((replace(metric, key=replace(key, task=wanted.name)),), documents)


def _of(documents: Sequence[Document], names: Sequence[str]) -> Iterator[Document]:
    wanted = frozenset(names)
    return (document for document in documents if document.task in wanted)


def _mean(metrics: Sequence[Metric], *, is_by_size: bool) -> Metric:
    """The mean of the parts of a group, documents of different parts taken as independent."""
    n = sum(metric.n for metric in metrics)
    shares = [metric.n / n if is_by_size else 1 / len(metrics) for metric in metrics]
    pairs = list(zip(shares, metrics, strict=True))
    errors = [None if m.stderr is None else share * m.stderr for share, m in pairs]
    known = [error for error in errors if error is not None]
    return replace(
        metrics[0],
        value=sum(share * metric.value for share, metric in pairs),
        stderr=math.hypot(*known) if len(known) == len(errors) else None,
        n=n,
    )


def _row(
    wanted: _Wanted, key: MetricKey, sides: Sequence[Evaluation | None], seed: int
) -> ScoreRow | None:
    there = next((side for side in sides if side is not None), None)
    if there is None:
        return None
    metric = there.metrics[0]
    rule = Objective("per_task", (Task(name=metric.key.task),), (metric.key,))
    members = {metric.key.task: wanted.parts}
    gains: list[Comparison | None] = []
    for index, side in enumerate(sides):
        if index == 0 or side is None or sides[0] is None:
            gains.append(None)
            continue
        draws = stream(seed, "eval", key.task, wanted.name, index)
        gains += compare(rule, side, sides[0], draws, members)
    scores = [None if side is None else _score(side.metrics[0]) for side in sides]
    return ScoreRow(
        wanted.name,
        wanted.depth,
        metric.key,
        metric.higher_is_better,
        tuple(scores),
        tuple(gains),
    )


def _score(metric: Metric) -> Score:
    """As the metric has it: nothing is turned."""
    return Score(metric.value, metric.stderr, metric.n)


def rows_data(rows: Sequence[ScoreRow], models: Sequence[str]) -> list[dict[str, Any]]:
    """The rows as JSON holds them; differences in the metric's own unit."""
    return [
        {
            "task": row.name,
            "depth": row.depth,
            "metric": row.key.metric,
            "filter": row.key.filter,
            "higher_is_better": row.higher_is_better,
            "n": row.n,
            "models": {
                model: _cell(row, score, gain)
                for model, score, gain in zip(models, row.scores, row.gains, strict=True)
            },
        }
        for row in rows
    ]


def _cell(row: ScoreRow, score: Score | None, gain: Comparison | None) -> Mapping[str, Any] | None:
    if score is None:
        return None
    difference = None
    if gain is not None:
        difference = {
            "value": rounded(row.sign * gain.difference),
            "stderr": rounded(gain.stderr),
            "n": gain.n,
            "n_differing": gain.n_differing,
            "is_better": gain.is_distinguishable and gain.difference > 0,
            "is_worse": gain.is_distinguishable and gain.difference < 0,
            "reason": gain.reason,
        }
    return {**score_content(score), "difference_to_first": difference}

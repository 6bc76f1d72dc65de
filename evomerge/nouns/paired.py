"""One task's documents as two models answered them, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evomerge.nouns.evaluation import Evaluation, Metric

Values = NDArray[np.float64]
_MOST_AT_ONCE = 1_000_000  # values drawn in one piece
_PRECISION = 1e-6  # relative; between a recorded score and the one its documents give


class NotPairedError(Exception):
    """The documents do not tell how sure a difference is; the message says why."""


@dataclass(frozen=True)
class PairedTask:
    """Per-document values of two models, higher is better.

    Attributes:
        parts: One array per part of the task (one, or the members of a group), shape (n, 2).
        shares: What each part counts in the score; their sum is 1.
        is_linear: Whether the score is the mean of its documents; else it is their geometric
            mean.
        sign: -1 where the metric is lower-is-better: values are turned after the mean.
    """

    parts: tuple[Values, ...]
    shares: tuple[float, ...]
    is_linear: bool
    sign: float

    @property
    def n(self) -> int:
        """Documents that both models answered."""
        return sum(len(part) for part in self.parts)

    @property
    def n_differing(self) -> int:
        """Documents on which the two models score differently."""
        return sum(int((part[:, 0] != part[:, 1]).sum()) for part in self.parts)

    @cached_property
    def stderr(self) -> float:
        """Standard error of the difference of the two means."""
        variances = [float(np.var(p[:, 0] - p[:, 1], ddof=1)) / len(p) for p in self.parts]
        pairs = zip(self.shares, variances, strict=True)
        return math.sqrt(sum(share**2 * variance for share, variance in pairs))

    def resampled(self, n_resamples: int, generator: np.random.Generator) -> Values:
        """Scores over documents drawn anew, the same for both models; shape (n_resamples, 2)."""
        total = np.zeros((n_resamples, 2))
        for part, share in zip(self.parts, self.shares, strict=True):
            values = part if self.is_linear else np.log(part)
            at_once = max(_MOST_AT_ONCE // len(part), 1)
            for first in range(0, n_resamples, at_once):
                shape = (min(at_once, n_resamples - first), len(part))
                chosen = generator.integers(len(part), size=shape)
                total[first : first + at_once] += share * values[chosen].mean(axis=1)
        return self.sign * (total if self.is_linear else np.exp(total))


def paired_task(
    one: tuple[Evaluation, Metric],
    other: tuple[Evaluation, Metric],
    members: Mapping[str, Sequence[str]],
) -> PairedTask:
    """The documents behind one task.

    Args:
        one: Its documents, and the metric of the task.
        other: Likewise.
        members: Task -> the names its documents go by, for groups of tasks.

    Raises:
        NotPairedError: there are too few documents, or the score is not made of them.
    """
    (_, mine), (_, theirs) = one, other
    names = members.get(mine.key.task, (mine.key.task,))
    values = [_values(evaluation, metric, names) for evaluation, metric in (one, other)]
    if not all(map(any, values)):
        raise NotPairedError(f"no result per document is kept of {mine.key}")
    rule = _rule((mine, theirs), values)
    parts = []
    for first, second in zip(*values, strict=True):
        common = sorted(first.keys() & second.keys())
        if len(common) < 2:
            raise NotPairedError(f"fewer than two documents of {mine.key} were answered by both")
        parts.append(np.array([(first[doc_id], second[doc_id]) for doc_id in common]))
    sign = 1.0 if mine.higher_is_better else -1.0
    shares = _evenly(parts) if rule is _of_members else _by_size(parts)
    return PairedTask(tuple(parts), tuple(shares), rule is not _geometric, sign)


def _values(evaluation: Evaluation, metric: Metric, names: Sequence[str]) -> list[dict[int, float]]:
    """For each part: document -> value of a metric."""
    name = f"{metric.key.metric},{metric.key.filter}"
    found: dict[str, dict[int, float]] = {part: {} for part in names}
    for document in evaluation.documents:
        if document.task in found and name in document.values:
            found[document.task][document.doc_id] = document.values[name]
    return list(found.values())


# A score as the documents of its parts give it; the one that gives what was recorded is the rule.
Rule = Callable[[Sequence[Values]], float]


def _mean(parts: Sequence[Values]) -> float:
    return float(np.concatenate(parts).mean())


def _of_members(parts: Sequence[Values]) -> float:
    return float(np.mean([part.mean() for part in parts]))


def _geometric(parts: Sequence[Values]) -> float:
    values = np.concatenate(parts)
    return float(np.exp(np.log(values).mean())) if (values > 0).all() else math.nan


def _rule(metrics: Sequence[Metric], values: Sequence[Sequence[Mapping[int, float]]]) -> Rule:
    """The rule that gives the recorded scores of both models."""
    for rule in (_mean, _of_members, _geometric):
        given = (rule([np.array(list(p.values())) for p in parts if p]) for parts in values)
        pairs = zip(given, metrics, strict=True)
        if all(
            math.isclose(value, metric.value, rel_tol=_PRECISION, abs_tol=_PRECISION)
            for value, metric in pairs
        ):
            return rule
    raise NotPairedError(f"{metrics[0].key} is no mean over its documents")


def _by_size(parts: Sequence[Values]) -> list[float]:
    n = sum(map(len, parts))
    return [len(part) / n for part in parts]


def _evenly(parts: Sequence[Values]) -> list[float]:
    return [1 / len(parts)] * len(parts)

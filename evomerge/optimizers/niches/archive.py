"""The archive of ``niches``: what trials get out of documents, and who has to leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evomerge.nouns.evaluation import Document, Evaluation, Metric

Array = NDArray[np.float64]
Documents = tuple[tuple[str, str, int], ...]  # task of the search, its member, document
_ALIKE: Mapping[str, float] = {}  # every task weighs 1


@dataclass(frozen=True)
class Member:
    """A trial in the archive.

    Attributes:
        genotype: Shape (n_dims,), in [0, 1].
        loss: Of the trial, finite.
        documents: Those it was scored on; empty where nobody knows.
        resources: What it got out of each of them, higher is better.
    """

    genotype: Array
    loss: float
    documents: Documents = ()
    resources: Array = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Supply:
    """What documents have to give, and who gets how much out of them.

    Attributes:
        scores: s, what each trial gets out of each document; shape (P, n_documents), >= 0.
        capacities: c, what each document is worth; shape (n_documents,), >= 0.
    """

    scores: Array
    capacities: Array


def shared_fitness(supply: Supply, alpha: float) -> Array:
    """What each trial has of the documents when those that solve one share it; shape (P,).

    With alpha 0 nothing is shared. ``f_p = sum_j c_j s_pj / z_j^alpha``, z_j the sum of s_pj over
    the archive.
    """
    fitness: Array = _shared(supply.scores, supply, alpha).sum(axis=1)
    return fitness


def attraction(supply: Supply, first: int, alpha: float) -> Array:
    """How much each trial gets out of documents beyond what the first parent gets; shape (P,)."""
    surplus = np.maximum(supply.scores - supply.scores[first], 0.0)
    wanted: Array = _shared(surplus, supply, alpha).sum(axis=1)
    return wanted


def _shared(amounts: Array, supply: Supply, alpha: float) -> Array:
    crowd = supply.scores.sum(axis=0) ** alpha  # z_j^alpha; where z_j is 0 every amount is
    shared: Array = np.divide(amounts, crowd, out=np.zeros_like(amounts), where=crowd > 0)
    return supply.capacities * shared


def least_fit(
    archive: Sequence[Member], alpha: float, task_weights: Mapping[str, float] = _ALIKE
) -> int:
    """Who has to leave: the one of the lowest shared fitness, but never the best trial.

    Among equals the one of the larger loss, then the later one.
    """
    fitness = shared_fitness(supply_of(archive, task_weights), alpha)
    losses = np.array([member.loss for member in archive])
    others = np.arange(len(archive)) != int(np.argmin(losses))
    order = np.lexsort((-np.arange(len(archive)), -losses, fitness))
    return int(next(index for index in order if others[index]))


def supply_of(archive: Sequence[Member], task_weights: Mapping[str, float] = _ALIKE) -> Supply:
    """What the documents give to the trials of an archive.

    Documents that not all have answered do not count; where there are none at all, it is one
    column of ranks, 1 the best. Each task has its weight, shared by its documents; capacities are
    1 where tasks and numbers of documents are alike.

    Args:
        archive: Any number of trials.
        task_weights: Task -> how much it counts, >= 0; 1 for one that is not named.
    """
    documents, raw = _answered_by_all(archive)
    if not documents:
        losses = np.array([member.loss for member in archive])
        ranks = [[float((losses >= loss).mean())] for loss in losses]
        return Supply(np.array(ranks).reshape(-1, 1), np.ones(1))
    sizes = Counter(task for task, _, _ in documents)
    weights = {task: task_weights.get(task, 1.0) for task in sizes}
    total = sum(weights.values()) or 1.0
    capacities = [len(documents) * weights[t] / (total * sizes[t]) for t, _, _ in documents]
    return Supply(_within_one(raw), np.array(capacities))


def _answered_by_all(archive: Sequence[Member]) -> tuple[Documents, Array]:
    """The documents that all members were scored on, and what each got out of them."""
    if not archive:
        return (), np.zeros((0, 0))
    first = archive[0].documents
    if all(member.documents is first for member in archive):
        return first, np.array([member.resources for member in archive])
    rows = [dict(zip(m.documents, m.resources.tolist(), strict=True)) for m in archive]
    shared = set(first).intersection(*rows)
    common = tuple(document for document in first if document in shared)
    return common, np.array([[row[document] for document in common] for row in rows])


def _within_one(raw: Array) -> Array:
    """Columns within [0, 1] as they are, others from their worst (0) to their best (1) trial."""
    finite = np.nan_to_num(raw, nan=-1e300, neginf=-1e300, posinf=1e300) / 2
    low, high = finite.min(axis=0), finite.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    is_within = ((raw >= 0) & (raw <= 1)).all(axis=0)
    return np.where(is_within, raw, (finite - low) / span)


def resources_of(evaluation: Evaluation) -> tuple[Documents, Array]:
    """What a trial got out of each document, by the metric of its task, higher is better."""
    metrics: dict[str, Metric | None] = {}
    found: dict[tuple[str, str, int], float] = {}
    for document in evaluation.documents:
        if document.task not in metrics:
            metrics[document.task] = _metric_of(document, evaluation.metrics)
        metric = metrics[document.task]
        value = None if metric is None else document.values.get(_name(metric))
        if metric is not None and value is not None:
            sign = 1.0 if metric.higher_is_better else -1.0
            found[metric.key.task, document.task, document.doc_id] = sign * value
    return tuple(found), np.array(list(found.values()))


def _metric_of(document: Document, metrics: Sequence[Metric]) -> Metric | None:
    """The first metric of the document's task, which the genome names; else of its group."""
    own = [metric for metric in metrics if metric.key.task == document.task]
    fitting = (metric for metric in (*own, *metrics) if _name(metric) in document.values)
    return next(fitting, None)


def _name(metric: Metric) -> str:
    return f"{metric.key.metric},{metric.key.filter}"

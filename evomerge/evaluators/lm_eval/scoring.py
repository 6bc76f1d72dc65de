"""Responses of a model -> metrics with standard errors, and documents, as lm-eval has them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Real
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import (
    acc_all,
    acc_all_stderr,
    bits_per_byte,
    mean,
    mean_stderr,
    perplexity,
    weighted_perplexity,
)
from lm_eval.config.group import AggMetricConfig

from evomerge.evaluators.lm_eval import metrics
from evomerge.evaluators.lm_eval.blame import blamed
from evomerge.evaluators.lm_eval.choices import judged
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf, TaskEntry
from evomerge.evaluators.lm_eval.requests import Responses, answered
from evomerge.evaluators.lm_eval.samples import samples_of
from evomerge.evaluators.lm_eval.tallies import plain, tallies_of
from evomerge.foundations.errors import EvaluationError, Problem
from evomerge.inference.base import Written
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey

# Standard errors with a formula; lm-eval bootstraps the others, 100,000 draws each.
STDERRS: dict[Callable[..., Any], Callable[..., float]] = {
    mean: mean_stderr,
    acc_all: acc_all_stderr,
}
# Aggregations whose value for one document is in the metric's own unit and direction, unlike
# the log-likelihood that lm-eval keeps per document.
PER_DOCUMENT = (perplexity, weighted_perplexity, bits_per_byte)
NO_STDERR = "N/A"  # lm-eval's word, also understood by its groups


@dataclass(frozen=True)
class Results:
    """What the documents of one entry gave.

    Attributes:
        found: Numbers with a direction, of the entry and of its parts.
        given: Every metric and filter of the entry itself.
    """

    found: dict[MetricKey, Metric]
    given: tuple[metrics.MetricFilter, ...]


def score(entries: Sequence[TaskEntry], responses: Responses) -> Evaluation:
    """Metrics and documents of what a model responded.

    Metrics without a direction are left out, and extra ones that are not finite.

    Raises:
        EvaluationError: a metric read by the genome is not a finite number, or code of a task
            failed.
    """
    found: dict[MetricKey, Metric] = {}
    documents: list[Document] = []
    own = []
    for entry in entries:
        results = results_of(entry, responses, documents)
        found |= results.found
        own.append(_own_metric(entry, results, documents))
    others = [metric for key, metric in found.items() if metric not in own]
    finite = (metric for metric in others if math.isfinite(metric.value))
    return Evaluation(
        (*own, *finite),
        tuple(documents),
        samples_of(entries, responses),
        tallies_of(entries, responses),
    )


def results_of(
    entry: TaskEntry, responses: Responses, documents: list[Document], *, is_sample: bool = False
) -> Results:
    """What one entry's documents gave; appends them.

    Args:
        entry: A task or a group.
        responses: To its documents.
        documents: Where they go.
        is_sample: Whether these are a few of many: where an aggregation fails on them, its
            metric is NaN. A correlation or a deviation is not defined for any documents.

    Raises:
        EvaluationError: code of a task failed.
    """
    found: dict[MetricKey, Metric] = {}
    results: dict[str, dict[str, Any]] = {}
    given: list[list[metrics.MetricFilter]] = []
    for leaf in entry.leaves:
        raw = _process(leaf, responses[leaf.task], documents)
        results[leaf.name] = _aggregate(leaf, raw, documents, is_sample=is_sample)
        given.append(list(raw))
        counts = {pair: len(values) for pair, values in raw.items()}
        found |= _metrics(leaf.name, [leaf.task], results[leaf.name], counts)
        if leaf.language is not None:
            share = leaf.language.metric(leaf.name)
            found[share.key] = share
    if entry.group is None:
        return Results(found, tuple(given[0]))
    if entry.is_pooled and entry.is_open:  # its tasks' YAML does not name what they have in common
        common = [pair for pair in given[0] if all(pair in pairs for pairs in given)]
        entry.group.aggregate_metric_list = [
            AggMetricConfig(metric=metric, filter_list=[name]) for metric, name in common
        ]
    with blamed(entry.key.task, "the group's own metrics"):
        totals = entry.group.aggregate(results)
    counts = {metrics.split_name(label): n for label, n in totals.get("sample_count", {}).items()}
    found |= _metrics(entry.key.task, [leaf.task for leaf in entry.leaves], totals, counts)
    return Results(found, tuple(counts))


def _own_metric(entry: TaskEntry, results: Results, documents: Sequence[Document]) -> Metric:
    """The metric that the genome reads.

    Raises:
        EvaluationError: there is none, or it is not a finite number.
    """
    key = key_of(entry, results.given)
    if isinstance(key, Problem):
        raise EvaluationError(key.what, fix=key.fix)
    metric = results.found.get(key)
    if metric is None or not math.isfinite(metric.value):
        value = "missing" if metric is None else metric.value
        odd = _odd_document(entry.leaves, documents, (key.metric, key.filter))
        raise EvaluationError(f"metric {key} is {value}, expected a finite number{odd}")
    return metric


def _odd_document(
    leaves: Sequence[Leaf], documents: Sequence[Document], of: metrics.MetricFilter
) -> str:
    """The first document without a finite number where others have one, for a message."""
    names, label = {leaf.name for leaf in leaves}, ",".join(of)
    own = [document for document in documents if document.task in names]
    odd = [document for document in own if label not in document.values]
    if not odd or len(odd) == len(own):  # the metric of a corpus
        return ""
    return f"; document {odd[0].doc_id} of {odd[0].task!r} gave no finite number"


def key_of(
    entry: TaskEntry, given: Sequence[metrics.MetricFilter], where: str = ""
) -> MetricKey | Problem:
    """The metric read from an entry, among those that its results have."""
    task, pair = entry.key.task, (entry.key.metric, entry.key.filter)
    if entry.is_known and pair in given:
        return entry.key
    is_free = entry.is_open and not entry.is_settled
    wanted = entry.requested if is_free else ",".join(pair)
    chosen = metrics.choose(wanted, given, task=task, where=where, says="gives")
    return chosen if isinstance(chosen, Problem) else MetricKey(task, *chosen)


def _process(
    leaf: Leaf, responses: Sequence[Any], documents: list[Document]
) -> dict[metrics.MetricFilter, list[Any]]:
    """Runs filters and per-document metrics; appends the leaf's documents."""
    at_once = judged(leaf, responses)
    if at_once is not None:
        documents += at_once.documents
        return at_once.values
    task, written = leaf.task, _written(leaf.task, responses)
    for instance, given in answered(task, plain({task: responses})[task]):
        instance.resps, instance.filtered_resps = given, {}
    requests_of: dict[int, list[Instance]] = defaultdict(list)
    for instance in task.instances:
        requests_of[instance.doc_id].append(instance)
    try:
        task.apply_filters()
    except (Exception, SystemExit):  # filters are anybody's code
        _blame_filters(leaf, requests_of)
        with blamed(leaf.name, "its filters, on all documents together"):
            raise
    aggregations = task.aggregation()
    raw: dict[metrics.MetricFilter, list[Any]] = defaultdict(list)
    for position, unordered in requests_of.items():
        requests = sorted(unordered, key=lambda request: request.idx)
        values: dict[str, float] = {}
        doc_id = leaf.number(position)
        for name in requests[0].filtered_resps:
            answers = [request.filtered_resps[name] for request in requests]
            with blamed(leaf.name, f"document {doc_id}"):
                found = dict(task.process_results(requests[0].doc, answers))
            for metric, value in found.items():
                raw[metric, name].append(value)
                number = per_document(value, aggregations.get(metric, mean))
                if number is not None:
                    values[f"{metric},{name}"] = number
        answer = _answer(task, requests)
        document = Document(leaf.name, doc_id, values, answer, written.get(position))
        if leaf.language is not None:
            document = leaf.language.marked(document, [*chain(*(one.resps for one in requests))])
        documents.append(document)
    return raw


def _blame_filters(leaf: Leaf, requests_of: Mapping[int, list[Instance]]) -> None:
    """Finds the document that the filters fail on, which take all of them at once.

    Raises:
        EvaluationError: names it; nothing where they fail on no document by itself.
    """
    for position, requests in requests_of.items():
        with blamed(leaf.name, f"its filters, document {leaf.number(position)}"):
            for ensemble in getattr(leaf.task, "_filters", ()):
                ensemble.apply(requests)


def _written(task: Any, responses: Sequence[Any]) -> dict[int, tuple[int, ...]]:
    """Tokens of each text that a document's values are of alone; lm-eval's number -> tokens."""
    return {
        instance.doc_id: given[0].tokens
        for instance, given in answered(task, responses)
        if len(given) == 1 and isinstance(given[0], Written)
    }


def _aggregate(
    leaf: Leaf,
    raw: dict[metrics.MetricFilter, list[Any]],
    documents: Sequence[Document],
    *,
    is_sample: bool,
) -> dict[str, Any]:
    """lm-eval's result dictionary of one task, as its groups read it.

    What its YAML does not name has lm-eval's mean, and none where that is no mean of numbers.
    """
    aggregations = leaf.task.aggregation()
    results: dict[str, Any] = {"sample_len": max(map(len, raw.values()), default=0)}
    for (metric, name), values in raw.items():
        if metric not in aggregations and any(isinstance(v, (Sequence, Mapping)) for v in values):
            continue
        aggregate = aggregations.get(metric, mean)
        stderr = STDERRS.get(aggregate)
        results |= {f"{metric},{name}": math.nan, f"{metric}_stderr,{name}": NO_STDERR}
        try:
            with blamed(leaf.name, f"the aggregation of {metric!r}"):
                try:
                    results[f"{metric},{name}"] = aggregate(values)
                except OverflowError:  # the perplexity of a broken model
                    results[f"{metric},{name}"] = math.inf
                if stderr is not None and len(values) > 1:
                    results[f"{metric}_stderr,{name}"] = stderr(values)
        except EvaluationError as error:
            if not is_sample or aggregate is mean:  # which any documents have
                odd = _odd_document([leaf], documents, (metric, name))
                raise EvaluationError(f"{error.problems[0].what}{odd}") from error
    return results


def _metrics(
    name: str,
    tasks: Sequence[Any],
    results: dict[str, Any],
    counts: dict[metrics.MetricFilter, int],
) -> dict[MetricKey, Metric]:
    found = {}
    for (metric, filter_name), n in counts.items():
        value = results.get(f"{metric},{filter_name}")
        higher_is_better = metrics.direction(tasks, metric)
        if isinstance(value, Real) and higher_is_better is not None:
            stderr = results.get(f"{metric}_stderr,{filter_name}", NO_STDERR)
            key = MetricKey(name, metric, filter_name)
            error = float(stderr) if isinstance(stderr, Real) else None
            found[key] = Metric(key, float(value), error, n, higher_is_better)
    return found


def per_document(value: Any, aggregate: Callable[..., Any]) -> float | None:
    """A document's value in the metric's own unit; None where it is no finite number."""
    if aggregate in PER_DOCUMENT:
        try:
            value = aggregate([value])
        except OverflowError:
            return None
    if not isinstance(value, Real) or not math.isfinite(value):
        return None
    return float(value)


def _answer(task: Any, requests: Sequence[Instance]) -> int | str | None:
    """The option with the highest log-likelihood, or the text after the first filter."""
    kind = requests[0].request_type
    if kind == "loglikelihood" and len(requests) > 1:
        # Mutual information asks for each option a second time, without the question.
        count = len(requests) // 2 if "acc_mutual_info" in task.aggregation() else len(requests)
        likelihoods = [request.resps[0][0] for request in requests[:count]]
        return max(range(count), key=likelihoods.__getitem__)
    if kind == "generate_until":
        answer = next(iter(requests[0].filtered_resps.values()))
        return str(answer[0] if isinstance(answer, list) and answer else answer)
    return None

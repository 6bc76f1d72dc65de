"""lm-eval's accuracies of a multiple-choice task: hits per document, over all documents at once.

What they need of a document beside the answers of a model, its right option and the lengths of
all, does not change from trial to trial: lm-eval's own templates give it, once.

Source: `lm_eval.api.task.ConfigurableTask.process_results`, which each document is compared with
in a test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product, repeat
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.filters.selection import TakeFirstFilter
from numpy.typing import NDArray

from evomerge.evaluators.lm_eval.blame import of_each
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf
from evomerge.evaluators.lm_eval.metrics import MetricFilter
from evomerge.nouns.evaluation import Document

# By what the log-likelihood of an option is divided, in the order that lm-eval reports them.
DIVISORS: dict[str, Callable[[str], float]] = {
    "acc": lambda option: 1.0,
    "acc_norm": lambda option: float(len(option)),
    "acc_bytes": lambda option: float(len(option.encode("utf-8"))),
}
_NO_OPTION = -100  # lm-eval's index of a right answer that is no option


@dataclass(frozen=True)
class Judged:
    """What a model did on the documents of a task.

    Attributes:
        values: Metric and filter -> 1.0 or 0.0 per document.
        documents: The same, document by document.
    """

    values: dict[MetricFilter, list[float]]
    documents: list[Document]


def judged(leaf: Leaf, responses: Sequence[Any]) -> Judged | None:
    """All documents of a task; None where lm-eval has to judge.

    Args:
        leaf: The task.
        responses: One per request, in their order.
    """
    choices = _choices_of(leaf)
    if choices is None:
        return None
    likelihoods = choices.likelihoods(responses)
    hits = choices.hits(likelihoods)
    pairs = [(metric, name) for name in choices.filters for metric in hits]
    labels = [f"{metric},{name}" for metric, name in pairs]
    # Documents with the same values share one mapping.
    mappings = [
        dict(zip(labels, one * len(choices.filters), strict=True))
        for one in product((0.0, 1.0), repeat=len(hits))
    ]
    places = reduce(lambda place, hit: 2 * place + hit, hits.values()).tolist()
    values = map(mappings.__getitem__, places)
    told = zip(repeat(leaf.name), choices.numbers, values, chosen(likelihoods), repeat(None))
    documents = map(Document._make, told)
    lists = {metric: hit.astype(float).tolist() for metric, hit in hits.items()}
    return Judged({(metric, name): lists[metric] for metric, name in pairs}, list(documents))


@dataclass(frozen=True)
class Choices:
    """The documents of a multiple-choice task, as its metrics see them.

    Attributes:
        numbers: That of each document, in the order of the requests.
        order: Numbers of the requests, one per option, document by document.
        filters: Names of the task's filters, all of which take the first response.
        right: The right option of each document, shape (documents,).
        places: Where the requests stand in (documents, options), flat.
        divisors: Metric -> shape (documents, options), 1 beyond a document's own options.
    """

    numbers: list[int]
    order: NDArray[np.int64]
    filters: list[str]
    right: NDArray[np.int64]
    places: NDArray[np.int64]
    divisors: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, leaf: Leaf) -> Choices | None:
        """The documents of a task with requests; None where lm-eval itself has to judge them."""
        task = leaf.task
        if not _is_plain(task):
            return None
        asked: dict[int, list[tuple[int, Instance]]] = defaultdict(list)
        for number, instance in enumerate(task.instances):
            asked[instance.doc_id].append((number, instance))
        groups = [sorted(group, key=lambda one: one[1].idx) for group in asked.values()]
        first = [group[0][1] for group in groups]
        documents = [(leaf.number(one.doc_id), one.doc) for one in first]
        options = of_each(leaf.name, task.doc_to_choice, documents)
        answer = task.doc_to_text if task.multiple_input else task.doc_to_target
        given = of_each(leaf.name, answer, documents)
        counts = list(map(len, groups))
        if not groups or counts != list(map(len, options)) or min(counts) < 2:
            return None
        if not all(isinstance(one, (int, str)) for one in given):
            return None
        right = [_index(one, own) for one, own in zip(given, options, strict=True)]
        shape = (len(groups), max(counts))
        places = [row * shape[1] + column for row, n in enumerate(counts) for column in range(n)]
        divisors = {}
        for metric in filter(task.aggregation().__contains__, DIVISORS):
            divisors[metric] = np.ones(shape)
            lengths = [DIVISORS[metric](option) for own in options for option in own]
            divisors[metric].flat[places] = lengths
        return cls(
            list(map(leaf.number, asked)),
            np.array([number for group in groups for number, _ in group]),
            [ensemble.name for ensemble in task._filters],
            np.array(right),
            np.array(places),
            divisors,
        )

    def likelihoods(self, responses: Sequence[Any]) -> NDArray[np.float64]:
        """What the requests were answered, shape (documents, options); -inf beyond a document's."""
        given = np.fromiter(map(itemgetter(0), responses), np.float64, len(responses))
        found = np.full(next(iter(self.divisors.values())).shape, -np.inf)
        found.flat[self.places] = given[self.order]
        return found

    def hits(self, likelihoods: NDArray[np.float64]) -> dict[str, NDArray[np.int64]]:
        """Metric -> 1 per document where the best option is the right one, else 0."""
        return {
            metric: (np.argmax(likelihoods / divisor, axis=1) == self.right).astype(np.int64)
            for metric, divisor in self.divisors.items()
        }


def chosen(likelihoods: NDArray[np.float64]) -> list[int]:
    """The most likely option of each document, the first among equals; NaN is never better."""
    found: list[int] = np.argmax(likelihoods, axis=1).tolist()
    for row in np.flatnonzero(np.isnan(likelihoods).any(axis=1)).tolist():
        found[row] = max(range(likelihoods.shape[1]), key=likelihoods[row].__getitem__)
    return found


_KEPT: WeakKeyDictionary[Any, tuple[Sequence[Instance], Choices | None]] = WeakKeyDictionary()


def _choices_of(leaf: Leaf) -> Choices | None:
    """Made once for the requests of a task."""
    task = leaf.task
    known = _KEPT.get(task)
    if known is None or known[0] is not task.instances:
        known = _KEPT[task] = (task.instances, Choices.of(leaf))
    return known[1]


def _is_plain(task: Any) -> bool:
    """Whether lm-eval's own code for multiple choice judges the task, and by accuracies alone."""
    if type(task) is not ConfigurableTask or task.OUTPUT_TYPE != "multiple_choice":
        return False
    config = task.config
    templates = (config.doc_to_text, config.doc_to_target, config.doc_to_choice)
    # Functions and random templates may say something else the next time.
    is_fixed = not any(callable(one) or "random" in str(one) for one in templates)
    takes_first = all(
        [filter_.func for filter_ in ensemble.filters] == [TakeFirstFilter]
        for ensemble in task._filters
    )
    return (
        is_fixed
        and all(instance.repeats == 1 for instance in task.instances)
        and takes_first
        and bool(task._filters)
        and config.process_results is None
        and not task.multiple_target
        and bool(task.aggregation())
        and set(task.aggregation()) <= set(DIVISORS)
    )


def _index(answer: int | str, options: Sequence[str]) -> int:
    """The right option by lm-eval's rule."""
    if isinstance(answer, str):
        return options.index(answer) if answer in options else _NO_OPTION
    return answer if answer < len(options) else _NO_OPTION

"""Signs that a task cannot tell models apart: answers cut or empty, and what guessing scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

from lm_eval.api.task import ConfigurableTask

from evomerge.evaluators.lm_eval.blame import of_each
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf, TaskEntry
from evomerge.evaluators.lm_eval.requests import Responses
from evomerge.inference.base import CutText, Written
from evomerge.nouns.evaluation import Tally

CORRELATION = "mcc"  # of guesses and right answers; that of any guesses is 0 on average
SHARES_OF_RIGHT = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")


def tallies_of(entries: Sequence[TaskEntry], responses: Responses) -> tuple[Tally, ...]:
    """One per entry of the genome's tasks, in their order."""
    return tuple(_tally(entry, responses) for entry in entries)


def plain(responses: Responses) -> Responses:
    """The responses as the tasks' own code may have them: their texts are texts and no more."""
    return {
        task: [str(one) if isinstance(one, Written) else one for one in given]
        for task, given in responses.items()
    }


def _tally(entry: TaskEntry, responses: Responses) -> Tally:
    writing = (leaf.task for leaf in entry.leaves if _may_write(leaf.task))
    given = chain.from_iterable(map(responses.__getitem__, writing))
    texts = [response for response in given if isinstance(response, str)]
    return Tally(
        entry.key.task,
        len(texts),
        sum(isinstance(text, CutText) for text in texts),
        sum(not text.strip() for text in texts),
        _guess(entry),
    )


def _may_write(task: Any) -> bool:
    """Whether any response may be a text; nobody need look at those of likelihoods alone."""
    return not isinstance(task, ConfigurableTask) or task.OUTPUT_TYPE == "generate_until"


def _guess(entry: TaskEntry) -> float | None:
    """What an option drawn at random would score, over all documents; None where nobody knows.

    What it scores by F1 depends on how often each option is right, and so on who guesses.
    """
    metric = entry.key.metric
    if not all(_chooses(leaf.task) for leaf in entry.leaves):
        return None
    counts = [count for leaf in entry.leaves for count in _known_counts(leaf)]
    if metric == CORRELATION and {n_options for n_options, _ in counts} == {2}:
        return 0.0
    if metric not in SHARES_OF_RIGHT or not counts:
        return None
    return sum(n_right / n_options for n_options, n_right in counts) / len(counts)


_KEPT: WeakKeyDictionary[Any, tuple[Sequence[Any], list[tuple[int, int]]]] = WeakKeyDictionary()


def _known_counts(leaf: Leaf) -> list[tuple[int, int]]:
    """Counted once for the requests of a task: no model changes them."""
    task = leaf.task
    known = _KEPT.get(task)
    if known is None or known[0] is not task.instances:
        known = _KEPT[task] = (task.instances, list(_counts(leaf)))
    return known[1]


def _chooses(task: Any) -> bool:
    return (
        isinstance(task, ConfigurableTask)
        and task.OUTPUT_TYPE == "multiple_choice"
        and task.config.process_results is None
    )


def _counts(leaf: Leaf) -> Iterator[tuple[int, int]]:
    """Options of each document, and how many are right; of one that has several, by lm-eval's rule.

    Mutual information asks for each option a second time.
    """
    task = leaf.task
    times = 2 if "acc_mutual_info" in task.aggregation() else 1
    asked = Counter(instance.doc_id for instance in task.instances)
    documents = {instance.doc_id: instance.doc for instance in task.instances}
    for position, n_requests in asked.items():
        n_options = n_requests // times
        n_right = 1
        if task.multiple_target:
            document = [(leaf.number(position), documents[position])]
            (right,) = of_each(leaf.name, task.doc_to_target, document)
            given = right if isinstance(right, list) else [right]
            n_right = len({one for one in given if isinstance(one, int) and 0 <= one < n_options})
        yield n_options, n_right

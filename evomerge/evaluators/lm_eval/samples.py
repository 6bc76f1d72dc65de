"""A few questions with a model's answers, for people who want to see what it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice
from typing import Any

from lm_eval.api.instance import Instance

from evomerge.evaluators.few_samples import N_SAMPLES, first_samples, sample_of
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf, TaskEntry
from evomerge.evaluators.lm_eval.requests import Responses, answered
from evomerge.nouns.evaluation import Sample

_ANOTHER = "(another text is likelier)"  # which one, nobody asked


def samples_of(entries: Sequence[TaskEntry], responses: Responses) -> tuple[Sample, ...]:
    """The first answers, one task after the other."""
    return first_samples([_of_entry(entry, responses) for entry in entries])


def _of_entry(entry: TaskEntry, responses: Responses) -> Iterator[Sample]:
    return chain.from_iterable(_of_leaf(leaf, responses[leaf.task]) for leaf in entry.leaves)


def _of_leaf(leaf: Leaf, responses: Sequence[Any]) -> Iterator[Sample]:
    # The requests of a document stand together: lm-eval builds them so.
    by_document = groupby(answered(leaf.task, responses), key=lambda one: one[0].doc_id)
    for position, requests in islice(by_document, N_SAMPLES):
        asked = list(requests)
        doc_id = leaf.number(position)
        prompt = str(asked[0][0].args[0])
        target = _target(leaf.task, asked[0][0].doc)
        yield sample_of(leaf.name, doc_id, prompt, _answer(asked), target)


def _answer(asked: Sequence[tuple[Instance, list[Any]]]) -> str:
    """The generated text, the option found most likely, or whether the only one is likeliest."""
    first, responses = asked[0]
    if first.request_type != "loglikelihood":
        return str(responses[0])
    if len(asked) == 1:
        _, is_likeliest = responses[0]
        return str(first.args[1]) if is_likeliest else _ANOTHER
    chosen, _ = max(asked, key=lambda one: float(one[1][0][0]))
    return str(chosen.args[1])


def _target(task: Any, document: Any) -> str:
    """The right answer as a text, the first of several; empty where the task has none to show."""
    try:
        target = (task.doc_to_text if task.multiple_input else task.doc_to_target)(document)
        if isinstance(target, (list, tuple)):
            target = target[0]
        if task.OUTPUT_TYPE == "multiple_choice" and isinstance(target, int):
            target = task.doc_to_choice(document)[target]
    except Exception:  # whatever a task's own code raises; its metric may not need it
        return ""
    return "" if target is None else str(target)

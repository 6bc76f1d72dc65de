"""lm-eval's requests -> questions: which of the answers to each would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance

from evomerge.evaluators.lm_eval.blame import blamed
from evomerge.evaluators.lm_eval.choices import DIVISORS
from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf, TaskEntry
from evomerge.evaluators.lm_eval.targets import target_of
from evomerge.evaluators.questions import Answer, Question


@dataclass(frozen=True)
class _Reader:
    """What documents are read with.

    Attributes:
        model: Its tokenizer reads the prompts.
        inside: Where lm-eval's own code runs.
    """

    model: LiveLanguageModel
    inside: Callable[[], AbstractContextManager[None]]


def questions_of(
    entries: Iterable[TaskEntry],
    model: LiveLanguageModel,
    inside: Callable[[], AbstractContextManager[None]],
) -> tuple[Question, ...]:
    """Every document that can teach, in the order of the tasks.

    Prompts and tokens are those the tasks are scored with. Of a chosen answer it must be known
    which option is right; a written one may be known by its score alone.

    Args:
        entries: The tasks, their requests built.
        model: Reads the prompts; it is bound, and so knows how much is read of them.
        inside: Where lm-eval's own code runs.
    """
    reader = _Reader(model, inside)
    with inside():
        return tuple(
            question
            for entry in entries
            for leaf in entry.leaves
            for question in _of_leaf(entry, leaf, reader)
        )


def _of_leaf(entry: TaskEntry, leaf: Leaf, read: _Reader) -> Iterator[Question]:
    by_document: dict[int, list[Instance]] = {}
    for request in leaf.task.instances:
        by_document.setdefault(request.doc_id, []).append(request)
    metric = f"{entry.key.metric},{entry.key.filter}"
    for position, unordered in by_document.items():
        requests = sorted(unordered, key=lambda request: request.idx)
        doc_id = leaf.number(position)
        given = (entry.key.task, (leaf.name, doc_id), metric, entry.higher_is_better)
        with blamed(leaf.name, f"the right answer of document {doc_id}"):
            found = list(_of_document(given, entry.key.metric, leaf.task, requests, read))
        yield from found


_Given = tuple[str, tuple[str, int], str, bool]


def _of_document(
    given: _Given, metric: str, task: Any, requests: Sequence[Instance], read: _Reader
) -> Iterator[Question]:
    kind = task.OUTPUT_TYPE
    if kind == "multiple_choice":
        yield from _chosen(given, metric, task, requests, read.model)
    elif kind == "generate_until" and len(requests) == 1:
        yield _written(given, task, requests[0], read)
    elif len(requests) == 1:
        for answer in _read(read.model, requests[0]):
            yield Question(*given, (answer,))


def _chosen(
    given: _Given, metric: str, task: Any, requests: Sequence[Instance], model: LiveLanguageModel
) -> Iterator[Question]:
    """A document with options, where one of them is right."""
    document = requests[0].doc
    options = list(task.doc_to_choice(document))
    right = tuple(_right(task, document, options))
    is_doubled = len(requests) == 2 * len(options)
    if len(requests) != len(options) and not is_doubled:
        return
    if not right or len(options) < 2:
        return
    read = [answer for request in requests for answer in _read(model, request)]
    if len(read) != len(requests):  # an option without a token
        return
    divisor = DIVISORS.get(metric, DIVISORS["acc"])
    # An empty option has no length; lm-eval's own division by it decides nothing then.
    lengths = tuple(divisor(option) or 1.0 for option in options)
    against = read[len(options) :] if metric == "acc_mutual_info" else []
    yield Question(*given, tuple(read[: len(options)]), right, lengths, tuple(against))


def _written(given: _Given, task: Any, request: Instance, read: _Reader) -> Question:
    """A document whose answer is generated, with its target."""
    context, asked = request.args
    prompt, settings = read.model.prompt(context, asked)
    return Question(
        *given,
        prompt=prompt,
        max_tokens=settings.max_tokens,
        is_repeated=request.repeats > 1,
        target=target_of(task, request, given[2], read.model, read.inside),
    )


def _right(task: Any, document: Any, options: Sequence[str]) -> Iterator[int]:
    """Of the right options, as lm-eval reads them."""
    given = (task.doc_to_text if task.multiple_input else task.doc_to_target)(document)
    for target in given if isinstance(given, (list, tuple)) else (given,):
        if isinstance(target, str):
            target = options.index(target) if target in options else None
        if isinstance(target, int) and 0 <= target < len(options):
            yield int(target)


def _read(language_model: LiveLanguageModel, request: Instance) -> Iterator[Answer]:
    is_whole = request.request_type == "loglikelihood_rolling"
    pairs = language_model.windows(request) if is_whole else [language_model.pair(request)]
    for context, tokens in pairs:
        if tokens:
            yield Answer(tuple(context), tuple(tokens)).cut(language_model.max_length)

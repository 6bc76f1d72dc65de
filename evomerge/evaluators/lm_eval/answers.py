"""The right answers of tasks, as tokens: what a model should have said, and after what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance

from evomerge.evaluators.lm_eval.blame import blamed
from evomerge.evaluators.lm_eval.evaluator import LmEval
from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.evaluators.lm_eval.tasks import Leaf

if TYPE_CHECKING:
    from evomerge.merging.live_model import LiveModel


@dataclass(frozen=True)
class Answer:
    """One document of a task with its right answer.

    Attributes:
        task: As the genome names it.
        context: What the model reads.
        answer: What it should go on with.
    """

    task: str
    context: tuple[int, ...]
    answer: tuple[int, ...]


def answers_of(evaluator: LmEval, model: LiveModel) -> tuple[Answer, ...]:
    """Every document whose right answer can be read off its task, in the order of the tasks.

    Prompts and tokens are those the tasks are scored with. An answer that is generated is the
    target after the task's delimiter; of an option that is chosen it is the option; of a whole
    text it is the text.

    Args:
        evaluator: Holds the tasks.
        model: Its tokenizer reads the prompts, its configuration says how much of them.
    """
    language_model = evaluator.language_model_for(model)
    language_model.bind(model.module)
    with evaluator.inside():
        return tuple(
            _cut(Answer(entry.key.task, tuple(context), tuple(answer)), language_model.max_length)
            for entry in evaluator.loaded()
            for leaf in entry.leaves
            for request in _right(leaf)
            for _, context, answer in _read(language_model, request)
            if answer
        )


def _cut(answer: Answer, max_length: int) -> Answer:
    """As much of the end as the model reads."""
    kept = answer.answer[:max_length]
    room = max(max_length + 1 - len(kept), 1)
    return Answer(answer.task, answer.context[-room:], kept)


def _read(language_model: LiveLanguageModel, request: Instance) -> Iterator[Any]:
    if request.request_type == "loglikelihood_rolling":
        yield from language_model.windows(request)
    else:
        yield language_model.pair(request)


def _right(leaf: Leaf) -> Iterator[Instance]:
    """Of the requests of each document the one that is right."""
    by_document: dict[int, list[Instance]] = {}
    for request in leaf.task.instances:
        by_document.setdefault(request.doc_id, []).append(request)
    for requests in by_document.values():
        with blamed(leaf.name, f"the right answer of document {leaf.number(requests[0].doc_id)}"):
            found = _right_of(leaf.task, requests)
        if found is not None:
            yield found


def _right_of(task: Any, requests: list[Instance]) -> Instance | None:
    first = requests[0]
    if task.OUTPUT_TYPE == "multiple_choice":
        index = _index(task, first.doc)
        return requests[index] if index is not None and index < len(requests) else None
    if task.OUTPUT_TYPE == "generate_until":
        target = task.doc_to_target(first.doc)
        text = target[0] if isinstance(target, (list, tuple)) and target else target
        if not isinstance(text, (str, int, float)) or text == "":
            return None
        delimiter = task.get_config("target_delimiter") or ""
        answer = text if str(text).startswith(delimiter) else f"{delimiter}{text}"
        return Instance("loglikelihood", first.doc, (first.args[0], answer), 0)
    return first if len(requests) == 1 else None


def _index(task: Any, document: Any) -> int | None:
    """Of the right option, as lm-eval reads it."""
    target = task.doc_to_target(document)
    if isinstance(target, (list, tuple)):
        target = target[0] if target else None
    if isinstance(target, str):
        options = list(task.doc_to_choice(document))
        target = options.index(target) if target in options else None
    return int(target) if isinstance(target, int) and target >= 0 else None

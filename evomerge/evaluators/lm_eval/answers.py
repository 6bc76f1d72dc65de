"""What tasks ask and what would be right, as tokens: the texts that a model can learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance

from evomerge.evaluators.lm_eval.blame import blamed
from evomerge.evaluators.lm_eval.choices import DIVISORS
from evomerge.evaluators.lm_eval.evaluator import LmEval
from evomerge.evaluators.lm_eval.generation import GenerationSettings, prompt_of
from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.evaluators.lm_eval.tasks import Entry, Leaf

if TYPE_CHECKING:
    from evomerge.merging.live_model import LiveModel

Tokens = tuple[int, ...]
_DELIMITERS = ("", " ", "\n")  # what models write before an answer, whatever the task says


PERFECT = {True: 1.0, False: 0.0}  # higher is better: a share of right ones; lower: an error


@dataclass(frozen=True)
class Answer:
    """What a model reads, and what it may go on with."""

    context: Tokens
    tokens: Tokens


@dataclass(frozen=True)
class Question:
    """One document of a task.

    Attributes:
        task: As the genome names it.
        document: Name and index that its results go by.
        metric: ``"metric,filter"`` that its results are judged by.
        higher_is_better: Direction of that metric.
        answers: The options; of a text that is written its target in every form, the task's own
            first, none where there is no target; else the one text that is scored.
        right: Which of the options are right.
        lengths: What lm-eval divides the log-likelihood of each option by.
        against: What it takes the log-likelihood of away, one per option; often empty.
        prompt: What a text is written after; None where none is.
        max_tokens: At which a text that is written is cut; None where none is.
        is_repeated: Whether several texts are written, of which a value is no one's alone.
    """

    task: str
    document: tuple[str, int]
    metric: str
    higher_is_better: bool
    answers: tuple[Answer, ...]
    right: tuple[int, ...] = (0,)
    lengths: tuple[float, ...] = (1.0,)
    against: tuple[Answer, ...] = ()
    prompt: Tokens | None = None
    max_tokens: int | None = None
    is_repeated: bool = False


def questions_of(evaluator: LmEval, model: LiveModel) -> tuple[Question, ...]:
    """Every document that can teach, in the order of the tasks.

    Prompts and tokens are those the tasks are scored with. Of a chosen answer it must be known
    which option is right; a written one may be known by its score alone.

    Args:
        evaluator: Holds the tasks.
        model: Its tokenizer reads the prompts, its configuration says how much of them.
    """
    language_model = evaluator.language_model_for(model)
    language_model.bind(model.module)
    with evaluator.inside():
        return tuple(
            question
            for entry in evaluator.loaded()
            for leaf in entry.leaves
            for question in _of_leaf(entry, leaf, language_model)
        )


def _of_leaf(entry: Entry, leaf: Leaf, language_model: LiveLanguageModel) -> Iterator[Question]:
    by_document: dict[int, list[Instance]] = {}
    for request in leaf.task.instances:
        by_document.setdefault(request.doc_id, []).append(request)
    metric = f"{entry.key.metric},{entry.key.filter}"
    for position, unordered in by_document.items():
        requests = sorted(unordered, key=lambda request: request.idx)
        doc_id = leaf.number(position)
        given = (entry.key.task, (leaf.name, doc_id), metric, entry.higher_is_better)
        with blamed(leaf.name, f"the right answer of document {doc_id}"):
            found = list(_of_document(given, entry.key.metric, leaf.task, requests, language_model))
        yield from found


_Given = tuple[str, tuple[str, int], str, bool]


def _of_document(
    given: _Given, metric: str, task: Any, requests: Sequence[Instance], model: LiveLanguageModel
) -> Iterator[Question]:
    kind = task.OUTPUT_TYPE
    if kind == "multiple_choice":
        yield from _chosen(given, metric, task, requests, model)
    elif kind == "generate_until" and len(requests) == 1:
        yield _written(given, task, requests[0], model)
    elif len(requests) == 1:
        for answer in _read(model, requests[0]):
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


def _written(given: _Given, task: Any, request: Instance, model: LiveLanguageModel) -> Question:
    """A document whose answer is generated, with its target in every form."""
    context, asked = request.args
    settings = GenerationSettings(model, asked, "")
    prompt = prompt_of(model, context, settings.room)
    target = _target(task, request.doc)
    target = target if _is_right(task, request, target, given[2]) else ""
    own = task.get_config("target_delimiter") or ""
    stops = settings.stops or [""]
    answers = [
        Answer(prompt, _after(model, context, _delimited(target, delimiter), stop))
        for delimiter, stop in product(dict.fromkeys((own, *_DELIMITERS)), stops)
        if target
    ]
    cut = tuple(_cut(answer, model.max_length) for answer in answers)
    return Question(*given, cut, prompt=prompt, max_tokens=settings.max_tokens)


def _delimited(target: str, delimiter: str) -> str:
    return target if target.startswith(delimiter) else f"{delimiter}{target}"


def _after(model: LiveLanguageModel, context: str, text: str, stop: str) -> Tokens:
    """The tokens that a model writes a text and its stop in, once it has read the context."""
    eot = model.eot_token_id
    if eot is not None and stop == model.tokenizer.decode(eot, skip_special_tokens=False):
        return (*_after(model, context, text, ""), eot)
    read = model.tok_encode(context)
    whole = model.tok_encode(f"{context}{text}{stop}")
    if whole[: len(read)] == read:
        return tuple(whole[len(read) :])
    return tuple(model.tok_encode(f"{text}{stop}", add_special_tokens=False))


def _target(task: Any, document: Any) -> str:
    """What a task says is right, the first of several; empty where it says nothing."""
    try:
        target = task.doc_to_target(document)
        if task.config.doc_to_choice is not None and isinstance(target, int):
            target = task.doc_to_choice(document)[target]
    except Exception:  # whatever a task's own code raises; its metric may not need it
        return ""
    target = target[0] if isinstance(target, (list, tuple)) and target else target
    return str(target) if isinstance(target, (str, int, float)) else ""


def _is_right(task: Any, request: Instance, target: str, metric: str) -> bool:
    """Whether the task itself would give a target full marks, were it an answer.

    A target may be no answer at all: a placeholder, the tests of a program, a text that the
    task's filters find nothing in.
    """
    if not target or task.config.unsafe_code:
        return False
    name, _, wanted = metric.partition(",")
    asked = Instance("generate_until", request.doc, request.args, 0, resps=[target])
    try:
        for ensemble in task._filters:
            if ensemble.name == wanted:
                ensemble.apply([asked])
        answer = asked.filtered_resps.get(wanted, target)
        value = dict(task.process_results(request.doc, [answer])).get(name)
    except Exception:  # whatever a task's own code raises at what it did not expect
        return False
    if not isinstance(value, (bool, int, float)):
        return value is not None  # of a metric of the whole corpus its own targets are right
    higher = bool(task.higher_is_better().get(name, True))
    return float(value) >= PERFECT[True] if higher else float(value) <= PERFECT[False]


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
    for _, context, tokens in pairs:
        if tokens:
            yield _cut(Answer(tuple(context), tuple(tokens)), language_model.max_length)


def _cut(answer: Answer, max_length: int) -> Answer:
    """As much of the end as the model reads."""
    kept = answer.tokens[:max_length]
    room = max(max_length + 1 - len(kept), 1)
    return Answer(answer.context[-room:], kept)

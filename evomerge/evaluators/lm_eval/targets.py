"""What a task says is right of a text that is written: its forms, and whether it would score it.

Tokens are made when they are asked for: there are as many forms as delimiters and stops, of every
document. Whether a target is right may be asked of a task's own code, which may cost something.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.evaluators.questions import DELIMITERS, PERFECT, Answer, Target, Tokens


def target_of(
    task: Any,
    request: Instance,
    metric: str,
    model: LiveLanguageModel,
    inside: Callable[[], AbstractContextManager[None]],
) -> Target | None:
    """The target of a document; None where the task says nothing.

    Args:
        task: lm-eval's.
        request: What is asked of the document.
        metric: ``"metric,filter"`` that steers.
        model: Reads the texts.
        inside: Where lm-eval's own code runs.
    """
    text = _text(task, request.doc)
    if not text or task.config.unsafe_code:
        return None
    context, asked = request.args
    prompt, settings = model.prompt(context, asked)
    own = task.get_config("target_delimiter") or ""
    forms = [*product(dict.fromkeys((own, *DELIMITERS)), settings.stops or ("",))]

    def form(index: int) -> Answer:
        delimiter, stop = forms[index]
        written = text if text.startswith(delimiter) else f"{delimiter}{text}"
        tokens = _after(model, context, written, stop)
        return Answer(prompt, tokens).cut(model.max_length)

    def is_right() -> bool:
        with inside():
            return _is_right(task, request, text, metric)

    return Target(len(forms), form, is_right, _is_judged(task, metric))


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


def _text(task: Any, document: Any) -> str:
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


def _is_judged(task: Any, metric: str) -> bool:
    """Whether the value of a metric is made by code of the task's own: a judge, or a program."""
    process = getattr(task.process_results, "__func__", None)
    if process is not ConfigurableTask.process_results or task.config.process_results is not None:
        return True
    function = task._metric_fn_list.get(metric.partition(",")[0])
    return not getattr(function, "__module__", "").startswith(("lm_eval.", "evaluate."))

"""In which form models would write a task's targets: delimiter, stop, and how foreign they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from evomerge.evaluators.questions import Answer, Question, Tokens
from evomerge.training.losses import likelihoods
from evomerge.training.passes import Pass, Text, fitting

Array = NDArray[np.float64]
N_LOOKED_AT = 8  # documents of a task
_FAR = float(np.log(3.0))  # each token of the target is a third as likely as one of the answer


@dataclass(frozen=True)
class Opinion:
    """What a parent finds of the targets of a task.

    Attributes:
        forms: Mean log-likelihood of the targets in each form, shape (forms,).
        per_token: The same of a token, shape (forms,).
        own: Mean log-likelihood of a token of its own right answers to the same documents; None
            where it has none.
    """

    forms: Array
    per_token: Array
    own: float | None


def opinion_of(
    module: PreTrainedModel,
    questions: Sequence[Question],
    own: Sequence[Tokens | None],
    batch_size: int,
) -> Opinion:
    """Has a parent read the targets of some documents in every form, and its own right answers.

    Args:
        module: The parent.
        questions: With as many forms each.
        own: Its right answer to each; None where it has none.
        batch_size: Texts of a pass.
    """
    texts = [
        Text((*answer.context, *answer.tokens), len(answer.context))
        for question in questions
        for answer in _forms_of(question)
    ]
    found = _read(module, texts, batch_size).reshape(len(questions), -1)
    lengths = np.array([text.n_read for text in texts]).reshape(len(questions), -1)
    pairs = [(one.prompt, tokens) for one, tokens in zip(questions, own, strict=True)]
    answers = [
        Text((*prompt, *tokens), len(prompt)) for prompt, tokens in pairs if prompt and tokens
    ]
    said = None
    if answers:
        each = _read(module, answers, batch_size)
        said = float(each.sum() / sum(text.n_read for text in answers))
        is_known = np.array([tokens is not None for tokens in own])
        per_token = found[is_known].sum(0) / lengths[is_known].sum(0)
    else:
        per_token = found.sum(0) / lengths.sum(0)
    return Opinion(found.mean(axis=0), per_token, said)


def _forms_of(question: Question) -> list[Answer]:
    target = question.target
    return [] if target is None else [target.form(index) for index in range(target.n_forms)]


def likeliest(opinions: Sequence[Opinion]) -> int:
    """The form that the parent who knows the targets best finds likeliest; first among equals."""
    return int(np.argmax(np.max([opinion.forms for opinion in opinions], axis=0)))


def is_foreign(opinions: Sequence[Opinion], form: int) -> bool:
    """Whether every parent with right answers finds them far likelier than the targets."""
    known = [one.own - one.per_token[form] for one in opinions if one.own is not None]
    return bool(known) and min(known) > _FAR


@torch.no_grad()
def _read(module: PreTrainedModel, texts: Sequence[Text], batch_size: int) -> Array:
    """Log-likelihood of each text, shape (texts,)."""
    found: list[float] = []
    for start in range(0, len(texts), batch_size):
        some = texts[start : start + batch_size]
        batch = Pass.of(some, module.device)
        with fitting():
            logits = batch.logits(module)
        found += likelihoods(logits, batch.wanted, [text.n_read for text in some]).tolist()
    return np.array(found)

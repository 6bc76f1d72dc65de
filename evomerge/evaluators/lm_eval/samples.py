"""A few questions with a model's answers, for people who want to see what it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice, zip_longest
from typing import Any

from lm_eval.api.instance import Instance

from evomerge.evaluators.lm_eval.requests import Responses, answered
from evomerge.evaluators.lm_eval.tasks import Entry, Leaf
from evomerge.trial import Sample

N_SAMPLES = 3
LONGEST = 240  # characters of a prompt's end, and of an answer


def samples_of(entries: Sequence[Entry], responses: Responses) -> tuple[Sample, ...]:
    """The first answers, one task after the other."""
    leaves = [leaf for entry in entries for leaf in entry.leaves]
    rounds = zip_longest(*(_of_leaf(leaf, responses[leaf.task]) for leaf in leaves))
    found = (sample for sample in chain.from_iterable(rounds) if sample is not None)
    return tuple(islice(found, N_SAMPLES))


def _of_leaf(leaf: Leaf, responses: Sequence[Any]) -> Iterator[Sample]:
    # The requests of a document stand together: lm-eval builds them so.
    by_document = groupby(answered(leaf.task, responses), key=lambda one: one[0].doc_id)
    for position, requests in islice(by_document, N_SAMPLES):
        asked = list(requests)
        doc_id = position if leaf.samples is None else leaf.samples[position]
        prompt = str(asked[0][0].args[0])
        yield Sample(leaf.name, doc_id, prompt[-LONGEST:], _answer(asked)[:LONGEST])


def _answer(asked: Sequence[tuple[Instance, list[Any]]]) -> str:
    """The generated text, or the option found most likely."""
    first, responses = asked[0]
    if first.request_type != "loglikelihood":
        return str(responses[0])
    chosen, _ = max(asked, key=lambda one: float(one[1][0][0]))
    return str(chosen.args[1])

"""What tasks ask of a model, kind by kind: put together once, answered by model after model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

from lm_eval.api.instance import Instance

from evomerge.evaluators.asking.asked import (
    AskInTokens,
    AskLikelihood,
    AskText,
    AskTextLikelihood,
)
from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import EvaluationError

# Task -> its responses in the order of its requests, as many of each as it is repeated.
Responses = Mapping[Any, Sequence[Any]]


class Requests:
    """All requests of some tasks.

    Args:
        leaves: The tasks, their requests built.
    """

    def __init__(self, leaves: Iterable[Leaf]) -> None:
        self._tasks = [leaf.task for leaf in leaves]
        self._by_kind: dict[str, list[Instance]] = defaultdict(list)
        self._runs: dict[Any, list[tuple[str, int]]] = {}  # task -> its requests, kind after kind
        for task in self._tasks:
            self._runs[task] = []
            for kind, run in groupby(task.instances, key=attrgetter("request_type")):
                asked = [one for one in run for _ in range(one.repeats)]
                self._runs[task].append((kind, len(asked)))
                self._by_kind[kind] += asked

    def ask(self, model: LiveLanguageModel) -> Responses:
        """Lets a model answer all of them, all tasks together.

        Raises:
            EvaluationError: every log-likelihood is NaN.
        """
        return self._shared_out(
            getattr(model, kind)(requests, disable_tqdm=True)
            for kind, requests in self._by_kind.items()
        )

    def asking(
        self, model: LiveLanguageModel, seed: int
    ) -> Generator[Sequence[AskInTokens], Sequence[Sequence[Any]], Responses]:
        """The same for whoever answers them together with what others ask.

        Args:
            model: Reads them.
            seed: Texts are drawn by it.

        Returns:
            Once they are answered.
        """
        asked = [_in_tokens(kind, own, model, seed) for kind, own in self._by_kind.items()]
        return self._shared_out((yield asked))

    def _shared_out(self, given: Iterable[Sequence[Any]]) -> Responses:
        """Responses, kind after kind, by task."""
        pairs = zip(self._by_kind, given, strict=True)
        by_kind = {kind: iter(self._sound(kind, responses)) for kind, responses in pairs}
        return {
            task: [one for kind, n in self._runs[task] for one in islice(by_kind[kind], n)]
            for task in self._tasks
        }

    def _sound(self, kind: str, responses: Sequence[Any]) -> Sequence[Any]:
        requests = self._by_kind[kind]
        if len(responses) != len(requests):
            got = counted(len(responses), "response")
            raise EvaluationError(f"{counted(len(requests), 'request')} got {got}")
        if kind.startswith("loglikelihood") and all(map(_is_nan, responses)):
            raise EvaluationError("every log-likelihood is NaN, expected numbers")
        return responses


def _in_tokens(
    kind: str, requests: Sequence[Instance], model: LiveLanguageModel, seed: int
) -> AskInTokens:
    """The requests of one of lm-eval's kinds, as an engine takes them."""
    if kind == "loglikelihood":
        return AskInTokens(AskLikelihood, model.pairs(requests))
    if kind == "loglikelihood_rolling":
        return AskInTokens(AskTextLikelihood, model.wholes(requests))
    if kind != "generate_until":
        raise EvaluationError(f"a task asks by {kind!r}, which no model here answers")
    prompts = model.prompts(requests)
    is_drawn = any(prompt.generation.is_sampled for prompt in prompts)
    return AskInTokens(AskText, prompts, seed if is_drawn else None)


def answered(task: Any, responses: Sequence[Any]) -> Iterator[tuple[Instance, list[Any]]]:
    """Each request of a task and its responses."""
    rest = iter(responses)
    for instance in task.instances:
        yield instance, list(islice(rest, instance.repeats))


def _is_nan(response: Any) -> bool:
    return math.isnan(response[0] if isinstance(response, tuple) else response)

"""The best answer to each document so far: what models wrote, and what it was worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evomerge.evaluators.lm_eval.answers import Question, Tokens
from evomerge.trial import Document

_PERFECT = {True: 1.0, False: 0.0}  # a share of right ones, an error; whatever the others do


@dataclass(frozen=True, order=True)
class _Known:
    """An answer, worse ones first.

    Attributes:
        value: Of the metric that steers; higher is better.
        is_baseline: Among equals what was there before the search stays.
        skill: Mean value of the task's documents for the model that gave it.
        tokens: As they were written, stop included.
    """

    value: float
    is_baseline: bool
    skill: float
    tokens: Tokens


class BestAnswers:
    """Answers that were written, by their value on the document.

    Args:
        questions: Of which answers are wanted.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        self._questions = {one.document: one for one in questions if one.prompt is not None}
        self._best: dict[tuple[str, int], _Known] = {}
        self._worst: dict[tuple[str, int], float] = {}
        self._values: dict[str, list[float]] = defaultdict(list)  # of baselines, task by task

    def of(self, documents: Sequence[Document]) -> BestAnswers:
        """Those of one model alone, right by the same measure."""
        own = BestAnswers(self._questions.values())
        own._values = self._values
        own.see(documents, is_baseline=False)
        return own

    def see(self, documents: Sequence[Document], *, is_baseline: bool) -> None:
        """Takes the results of one model."""
        found: dict[str, list[tuple[tuple[str, int], float, Tokens]]] = defaultdict(list)
        for document in documents:
            place = (document.task, document.doc_id)
            question = self._questions.get(place)
            value = None if question is None else document.values.get(question.metric)
            if question is not None and value is not None and document.written:
                sign = 1.0 if question.higher_is_better else -1.0
                found[document.task].append((place, sign * value, document.written))
        for name, answers in found.items():
            values = [value for _, value, _ in answers]
            if is_baseline:
                self._values[name] += values
            skill = sum(values) / len(values)
            for place, value, tokens in answers:
                self._keep(place, _Known(value, is_baseline, skill, tokens))

    def _keep(self, place: tuple[str, int], known: _Known) -> None:
        held = self._best.get(place)
        rank = (known.value, known.is_baseline, known.skill)
        if held is None or rank > (held.value, held.is_baseline, held.skill):
            self._best[place] = known
        self._worst[place] = min(known.value, self._worst.get(place, known.value))

    def right(self, question: Question) -> Tokens | None:
        """The best answer where it is right: perfect, or above the mean of the baselines."""
        known = self._best.get(question.document)
        values = self._values[question.document[0]]
        if known is None or not values:
            return None
        mean = sum(values) / len(values)
        is_perfect = abs(known.value) == _PERFECT[question.higher_is_better]
        is_right = known.value > mean or (is_perfect and known.value == mean)
        return known.tokens if is_right else None

    def better(self, question: Question) -> Tokens | None:
        """The best answer where another one was worse."""
        known = self._best.get(question.document)
        is_better = known is not None and known.value > self._worst[question.document]
        return known.tokens if known is not None and is_better else None

"""The best answer to each document so far: what models wrote, and what it was worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evomerge.evaluators.questions import PERFECT, Question, Tokens
from evomerge.nouns.evaluation import Document


@dataclass(frozen=True, order=True)
class _Known:
    """An answer, worse ones first.

    Attributes:
        value: Of the metric that steers; higher is better.
        has_ended: Whether it stopped by itself, before the length limit.
        is_baseline: Among equals what was there before the search stays.
        skill: Mean value of the task's documents for the model that gave it.
        tokens: As they were written, stop included.
    """

    value: float
    has_ended: bool
    is_baseline: bool
    skill: float
    tokens: Tokens

    @property
    def rank(self) -> tuple[float, bool, bool, float]:
        """What the better one has more of."""
        return self.value, self.has_ended, self.is_baseline, self.skill


class BestAnswers:
    """Answers that were written, by their value on the document.

    Args:
        questions: Of which answers are wanted.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        self._questions = {one.document: one for one in questions if one.prompt is not None}
        self._best: dict[tuple[str, int], _Known] = {}
        self._worst: dict[tuple[str, int], float] = {}
        self._totals: dict[str, tuple[float, int]] = {}  # values of baselines, and how many

    def of(self, documents: Sequence[Document]) -> BestAnswers:
        """Those of one model alone, right by the same measure."""
        own = BestAnswers(self._questions.values())
        own._totals = self._totals
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
                total, n = self._totals.get(name, (0.0, 0))
                self._totals[name] = total + sum(values), n + len(values)
            skill = sum(values) / len(values)
            for place, value, tokens in answers:
                most = self._questions[place].max_tokens
                has_ended = most is None or len(tokens) < most
                self._keep(place, _Known(value, has_ended, is_baseline, skill, tokens))

    def _keep(self, place: tuple[str, int], known: _Known) -> None:
        held = self._best.get(place)
        if held is None or known.rank > held.rank:
            self._best[place] = known
        self._worst[place] = min(known.value, self._worst.get(place, known.value))

    def right(self, question: Question) -> Tokens | None:
        """The best answer where it is right: perfect, or above the mean of the baselines."""
        known = self._best.get(question.document)
        total, n = self._totals.get(question.document[0], (0.0, 0))
        if known is None or not n:
            return None
        mean = total / n
        is_perfect = known.value == PERFECT[question.higher_is_better]
        is_right = known.value > mean or (is_perfect and known.value == mean)
        return known.tokens if is_right else None

    def better(self, question: Question) -> Tokens | None:
        """The best answer where another one was worse."""
        known = self._best.get(question.document)
        is_better = known is not None and known.value > self._worst[question.document]
        return known.tokens if known is not None and is_better else None

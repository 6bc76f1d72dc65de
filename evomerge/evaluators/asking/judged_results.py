"""Documents that were judged -> metrics with standard errors, documents, samples and tallies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from evomerge.evaluators.asking.asking_kind import Judgement
from evomerge.evaluators.asking.asking_task import FILTER, AskingTask
from evomerge.evaluators.asking.rounds import Hearing
from evomerge.evaluators.few_samples import first_samples, sample_of
from evomerge.foundations.errors import EvaluationError
from evomerge.inference.base import CutText
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey, Sample, Tally

Heard = tuple[AskingTask, Sequence[Hearing]]  # a task, and its documents that were judged


class _Judged(NamedTuple):
    """A document, what came of it, and the tokens of the one text that was written for it."""

    number: int
    judgement: Judgement
    written: tuple[int, ...] | None


def evaluation_of(heard: Sequence[Heard]) -> Evaluation:
    """Everything that came of some tasks, the metrics that the genome reads first.

    Raises:
        EvaluationError: one of these is no finite number.
    """
    own, others = list[Metric](), list[Metric]()
    documents, tallies = list[Document](), list[Tally]()
    samples = list[Iterator[Sample]]()
    for task, hearings in heard:
        judged = [*chain.from_iterable(map(_judged, hearings))]
        _refuse_missing(task, judged)
        metrics = list(_metrics(task, judged))
        if not metrics or metrics[0].key != task.key or not math.isfinite(metrics[0].value):
            value = metrics[0].value if metrics and metrics[0].key == task.key else "missing"
            raise EvaluationError(f"metric {task.key} is {value}, expected a finite number")
        own.append(metrics[0])
        others += (one for one in metrics[1:] if math.isfinite(one.value))
        documents += (_document(task.name, one) for one in judged)
        samples.append(_samples(task.name, judged))
        tallies += _tally(task, hearings)
    return Evaluation((*own, *others), tuple(documents), first_samples(samples), tuple(tallies))


def _judged(hearing: Hearing) -> Iterator[_Judged]:
    """Each document; those whose number only judging told are counted from 0."""
    judgements = hearing.judgements or ()
    is_told = len(hearing.numbers) == len(judgements)
    numbers = hearing.numbers if is_told else range(len(judgements))
    is_one = len(judgements) == len(hearing.texts) == 1
    for number, judgement in zip(numbers, judgements, strict=True):
        yield _Judged(number, judgement, hearing.texts[0].tokens if is_one else None)


def _refuse_missing(task: AskingTask, judged: Sequence[_Judged]) -> None:
    """Some documents may lack their value.

    Raises:
        EvaluationError: more do than may.
    """
    lacks = [one.judgement.lacks for one in judged if one.judgement.lacks]
    most = task.kind.most_missing
    if len(lacks) > most * len(judged):
        causes = ", ".join(f"{cause} ({n})" for cause, n in Counter(lacks).most_common())
        raise EvaluationError(
            f"{len(lacks)} of {len(judged)} documents of {task.name!r} have no "
            f"{task.kind.measures[0].name}: {causes}; {most:.0%} may have none"
        )


def _metrics(task: AskingTask, judged: Sequence[_Judged]) -> Iterator[Metric]:
    """Means over the documents that have a value, the metric that is read first."""
    for measure in task.measures:
        given = (one.judgement.values.get(measure.name) for one in judged)
        values = [value for value in given if value is not None]
        if values:
            n, mean = len(values), sum(values) / len(values)
            error = None
            if n > 1 and math.isfinite(mean):
                error = math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (n - 1) / n)
            key = MetricKey(task.name, measure.name, FILTER)
            yield Metric(key, mean, error, n, measure.higher_is_better)


def _document(task: str, one: _Judged) -> Document:
    """Its numbers, its answer, and the tokens of the text where it is about one."""
    judgement = one.judgement
    values = {f"{name},{FILTER}": float(value) for name, value in judgement.values.items()}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    answer = judgement.answer
    plain = str(answer) if isinstance(answer, str) else answer  # what is written knows its tokens
    return Document(task, one.number, finite, plain, one.written)


def _samples(task: str, judged: Sequence[_Judged]) -> Iterator[Sample]:
    for one in judged:
        shown = one.judgement.shown
        if shown is not None:
            texts = map(str, (shown.prompt, shown.answer, shown.target))
            yield sample_of(task, one.number, *texts)


def _tally(task: AskingTask, hearings: Sequence[Hearing]) -> Iterator[Tally]:
    """Of a task whose texts are written, or can be guessed."""
    texts = [text for one in hearings for text in one.texts]
    guess = task.guess
    if texts or guess is not None:
        cut = () if task.kind.reads_beginnings else texts
        n_cut = sum(isinstance(text, CutText) for text in cut)
        n_empty = sum(not text.strip() for text in texts)
        yield Tally(task.name, len(texts), n_cut, n_empty, guess)

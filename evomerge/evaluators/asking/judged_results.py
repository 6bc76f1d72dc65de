"""Documents that were judged -> metrics with standard errors, documents, samples and tallies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from evomerge.evaluators.asking.asking_task import FILTER, AskingTask
from evomerge.evaluators.asking.rounds import Hearing
from evomerge.evaluators.few_samples import first_samples, sample_of
from evomerge.foundations.errors import EvaluationError
from evomerge.inference.base import CutText
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey, Sample, Tally

Heard = tuple[AskingTask, Sequence[Hearing]]  # a task, and its documents that were judged


def evaluation_of(heard: Sequence[Heard]) -> Evaluation:
    """Everything that came of some tasks, the metrics that the genome reads first.

    Raises:
        EvaluationError: one of these is no finite number.
    """
    own, others = list[Metric](), list[Metric]()
    documents, tallies = list[Document](), list[Tally]()
    for task, hearings in heard:
        _refuse_missing(task, hearings)
        metrics = list(_metrics(task, hearings))
        if not metrics or metrics[0].key != task.key or not math.isfinite(metrics[0].value):
            value = metrics[0].value if metrics and metrics[0].key == task.key else "missing"
            raise EvaluationError(f"metric {task.key} is {value}, expected a finite number")
        own.append(metrics[0])
        others += (one for one in metrics[1:] if math.isfinite(one.value))
        documents += map(_document, hearings)
        tallies += _tally(task, hearings)
    samples = first_samples([_samples(hearings) for _, hearings in heard])
    return Evaluation((*own, *others), tuple(documents), samples, tuple(tallies))


def _refuse_missing(task: AskingTask, hearings: Sequence[Hearing]) -> None:
    """Some documents may lack their value.

    Raises:
        EvaluationError: more do than may.
    """
    lacks = [one.judgement.lacks for one in hearings if one.judgement and one.judgement.lacks]
    most = task.kind.most_missing
    if len(lacks) > most * len(hearings):
        causes = ", ".join(f"{cause} ({n})" for cause, n in Counter(lacks).most_common())
        raise EvaluationError(
            f"{len(lacks)} of {len(hearings)} documents of {task.name!r} have no "
            f"{task.kind.measures[0].name}: {causes}; {most:.0%} may have none"
        )


def _metrics(task: AskingTask, hearings: Sequence[Hearing]) -> Iterator[Metric]:
    """Means over the documents that have a value, the metric that is read first."""
    for measure in task.measures:
        given = (_values(one).get(measure.name) for one in hearings)
        values = [value for value in given if value is not None]
        if values:
            n, mean = len(values), sum(values) / len(values)
            error = None
            if n > 1 and math.isfinite(mean):
                error = math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (n - 1) / n)
            key = MetricKey(task.name, measure.name, FILTER)
            yield Metric(key, mean, error, n, measure.higher_is_better)


def _values(hearing: Hearing) -> dict[str, float]:
    return {} if hearing.judgement is None else dict(hearing.judgement.values)


def _document(hearing: Hearing) -> Document:
    """Its numbers, its answer, and the tokens of the text where it is about one."""
    values = {f"{name},{FILTER}": float(value) for name, value in _values(hearing).items()}
    return Document(
        hearing.task,
        hearing.number,
        {name: value for name, value in values.items() if math.isfinite(value)},
        None if hearing.judgement is None else hearing.judgement.answer,
        hearing.texts[0].tokens if len(hearing.texts) == 1 else None,
    )


def _samples(hearings: Sequence[Hearing]) -> Iterator[Sample]:
    for one in hearings:
        shown = None if one.judgement is None else one.judgement.shown
        if shown is not None:
            yield sample_of(one.task, one.number, shown.prompt, shown.answer, shown.target)


def _tally(task: AskingTask, hearings: Sequence[Hearing]) -> Iterator[Tally]:
    """Of a task whose texts are written, or can be guessed."""
    texts = [text for one in hearings for text in one.texts]
    guess = task.guess
    if texts or guess is not None:
        n_cut = sum(isinstance(text, CutText) for text in texts)
        n_empty = sum(not text.strip() for text in texts)
        yield Tally(task.name, len(texts), n_cut, n_empty, guess)

"""What came of one candidate: metrics, documents, a few answers to read, or why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple


class TrialState(str, Enum):
    """What can be known of a trial."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    PRUNED = "pruned"


@dataclass(frozen=True, order=True)
class MetricKey:
    """Names one number of an evaluation, as lm-eval's ``task``, ``metric,filter``."""

    task: str
    metric: str
    filter: str = "none"

    def __str__(self) -> str:
        return f"{self.task}/{self.metric},{self.filter}"


@dataclass(frozen=True)
class Metric:
    """One number an evaluator reports.

    Attributes:
        key: What it measures.
        value: The number, in the metric's own unit.
        stderr: Standard error of ``value``, None where none can be given.
        n: Documents it was computed from.
        higher_is_better: Direction, as the task declares it.
    """

    key: MetricKey
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool


class Document(NamedTuple):
    """What a model did on one document; a tuple, as every trial makes thousands.

    Attributes:
        task: Task name.
        doc_id: The document's index in its split; stable across trials.
        values: ``"metric,filter"`` -> value of this document alone; only metrics
            whose per-document value is a number.
        answer: What the model answered: the chosen option's index, or generated text.
        written: Tokens it generated, up to and with what ended them; None where there are none.
    """

    task: str
    doc_id: int
    values: Mapping[str, float]
    answer: int | str | None = None
    written: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Sample:
    """One question and a model's answer, for people to read.

    Attributes:
        task: Task name.
        doc_id: The document.
        prompt: The end of what the model read.
        answer: What it generated, or the option it found most likely.
        target: What would have been right; empty where the task does not say.
    """

    task: str
    doc_id: int
    prompt: str
    answer: str
    target: str = ""


@dataclass(frozen=True)
class Tally:
    """Signs that a task cannot tell models apart, counted over its documents.

    Attributes:
        task: Task name, as the genome has it.
        n_generated: Answers that were generated.
        n_cut: Those of them that the length limit ended.
        n_empty: Those of them without a visible letter.
        guess: What an option drawn at random would score, in [0, 1]; None where there are no
            options, or the score is no share of right ones.
    """

    task: str
    n_generated: int = 0
    n_cut: int = 0
    n_empty: int = 0
    guess: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """All metrics of one model, the documents behind them, and a few answers to read.

    Attributes:
        metrics: The tasks' own ones first, in their order.
        documents: One by one.
        samples: A few of them, at least one of each task.
        tallies: One per task, in their order; empty where nobody counted.
    """

    metrics: tuple[Metric, ...]
    documents: tuple[Document, ...] = ()
    samples: tuple[Sample, ...] = ()
    tallies: tuple[Tally, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a candidate.

    Attributes:
        state: COMPLETE or FAILED.
        evaluation: Metrics and documents, None if failed.
        failure: One sentence why, empty if complete.
        seconds: Stage -> wall-clock seconds (``"merge"``, ``"evaluate"``, ...).
        batch_divisor: What the batch was divided by to fit the memory: 1, 2, 4, ...
        traceback: Where a failure came from, for programmers; not recorded.
    """

    state: TrialState
    evaluation: Evaluation | None = None
    failure: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    batch_divisor: int = 1
    traceback: str = field(default="", compare=False)

    def without_documents(self) -> Outcome:
        """The same without what was found document by document: what stays in memory."""
        if self.evaluation is None or not self.evaluation.documents:
            return self
        return replace(self, evaluation=replace(self.evaluation, documents=()))

    def without_tokens(self) -> Outcome:
        """The same without the tokens of what was written: only search documents teach."""
        evaluation = self.evaluation
        if evaluation is None or all(one.written is None for one in evaluation.documents):
            return self
        documents = tuple(one._replace(written=None) for one in evaluation.documents)
        return replace(self, evaluation=replace(evaluation, documents=documents))

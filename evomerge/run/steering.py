"""Tasks that cannot steer a search, found by how the models that are merged did on them.

Such a task takes its share of the score, or the whole of it, and tells no merge from another.
People see at once why when they see a prompt, the right answer and the one that was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from evomerge.foundations.errors import RunError
from evomerge.foundations.findings import Finding, warning
from evomerge.nouns.evaluation import Document, Evaluation, Metric, Sample, Tally
from evomerge.nouns.events import Event, Warned
from evomerge.nouns.objective import Objective
from evomerge.nouns.parents import is_parent, refuse_unscored
from evomerge.nouns.trial import Trial
from evomerge.run.leaderboard import Leaderboard
from evomerge.run.ledger.history import Ledger

MOST_SPOILT = 1 / 2  # of the answers of every model, cut or empty
_SURE = 2  # standard errors by which a model that knows something beats guessing
_WHY_ZERO = (
    "Look at prompt, target and answer: chat template, stop texts, answer format and the metric's "
    "filter decide what counts."
)

Reason = tuple[str, str]  # what is seen, what to do
DocumentsOf = Callable[[int], Sequence[Document]]  # of a trial


@dataclass(frozen=True)
class Doubt:
    """Why a task cannot steer.

    Attributes:
        task: Its name.
        reasons: What is seen of it, one phrase each.
        fixes: What to do, a sentence each.
        sample: A document with the answer of one of the models; None where none was kept.
    """

    task: str
    reasons: tuple[str, ...]
    fixes: tuple[str, ...]
    sample: Sample | None

    @property
    def finding(self) -> Finding:
        """The same as people read it."""
        shown = "" if self.sample is None else f" As it was:\n{sample_text(self.sample)}"
        return warning(
            f"{'; '.join(self.reasons)}: nothing here shows that this task can steer the search",
            self.task,
            f"{' '.join(dict.fromkeys(self.fixes))}{shown}",
        )


def look_at_tasks(leaderboard: Leaderboard, ledger: Ledger, *, is_strict: bool) -> Iterator[Event]:
    """Tells of every task that cannot steer, once the baselines are scored.

    Args:
        leaderboard: The baselines.
        ledger: Holds their documents.
        is_strict: Whether one such task is too many.

    Raises:
        RunError: every model failed; or the run is strict.
    """
    where = str(ledger.folder.path)
    refuse_unscored(leaderboard.trials, where=where)
    members = ledger.header.get("members", {}).get("tasks", {})
    found = doubts(leaderboard.objective, leaderboard.trials, ledger.documents, members)
    yield from (Warned(str(doubt.finding)) for doubt in found)
    if found and is_strict:
        raise RunError(
            f"--strict: {', '.join(doubt.task for doubt in found)} cannot steer the search",
            where=where,
            fix="The same command without --strict goes on from here.",
        )


def doubts(
    objective: Objective,
    trials: Sequence[Trial],
    documents: DocumentsOf,
    members: Mapping[str, Sequence[str]],
) -> list[Doubt]:
    """The tasks that cannot steer, in their order.

    Args:
        objective: Which metric of each task steers.
        trials: The baselines, and any others.
        documents: Per-document results of a trial; asked for where its metrics do not tell.
        members: Task -> the names its documents go by, for groups of tasks.
    """
    baselines = [t for t in trials if t.candidate.is_baseline and t.outcome.evaluation is not None]
    if not any(map(is_parent, baselines)):
        return []
    found = []
    for index, task in enumerate(objective.tasks):
        names = (task.name, *members.get(task.name, ()))
        seen = _Seen(objective, index, baselines, documents, names)
        reasons = list(seen.reasons())
        if reasons:
            what, fixes = zip(*reasons, strict=True)
            found.append(Doubt(task.name, what, fixes, seen.sample))
    return found


def sample_text(sample: Sample) -> str:
    """A sample as people read it, a line each for prompt, target and answer."""
    return (
        f"  {sample.task}, document {sample.doc_id}\n"
        f"    prompt ... {sample.prompt!r}\n"
        f"    target     {sample.target!r}\n"
        f"    answer     {sample.answer!r}"
    )


class _Seen:
    """One task as the baselines did on it.

    Args:
        objective: Names its metric.
        index: Which task.
        baselines: With scores.
        documents: Per-document results of a trial.
        names: Of the task and of its documents.
    """

    def __init__(
        self,
        objective: Objective,
        index: int,
        baselines: Sequence[Trial],
        documents: DocumentsOf,
        names: Sequence[str],
    ) -> None:
        self._counts = objective.counts(index)
        self._documents = documents
        self._names = names
        self._parents = [trial for trial in baselines if is_parent(trial)]
        self._others = [trial for trial in baselines if not is_parent(trial)]
        self._metrics = {
            trial.candidate.trial_id: objective.metric(_evaluation(trial), index)
            for trial in baselines
        }
        self._tallies = [
            tally
            for trial in self._parents
            for tally in _evaluation(trial).tallies
            if tally.task == objective.tasks[index].name
        ]

    @property
    def sample(self) -> Sample | None:
        """The first document whose answer was kept."""
        samples = (one for trial in self._parents for one in _evaluation(trial).samples)
        return next((one for one in samples if one.task in self._names), None)

    def reasons(self) -> Iterator[Reason]:
        """What keeps it from steering; nothing where models can be told apart by it."""
        if not self._counts:
            yield (
                "it has weight 0",
                "Give it a weight, or leave it out where nobody reads its score.",
            )
            return
        yield from self._of_scores()
        yield from self._of_answers(
            "were cut by the length limit", _share_cut, "Raise max_gen_toks."
        )
        yield from self._of_answers("are empty", _share_empty, "Look at its stop texts (until).")

    def _of_scores(self) -> Iterator[Reason]:
        metrics = [self._metrics[trial.candidate.trial_id] for trial in self._parents]
        label = f"{metrics[0].key.metric},{metrics[0].key.filter}"
        values = [metric.value for metric in metrics]
        who = "every model scores" if len(values) > 1 else "the model scores"
        if not any(values):
            yield f"{who} 0 ({label}{self._beside})", _WHY_ZERO
        elif all(value == 1 for value in values):
            yield f"{who} 1 ({label}{self._beside})", "Choose documents that are harder."
        elif self._are_equal(metrics):
            has_values = any(self._values(trial, metrics[0]) for trial in self._parents)
            yield (
                f"every model scores the same{' on every document' if has_values else ''} "
                f"({label} {values[0]:.4g}{self._beside})",
                "Look at the models, which may be one and the same, and at what scores them.",
            )
        elif (guess := self._guess) is not None:
            # Of a share; 0 is what a correlation of two things in two classes has on average.
            variance = guess * (1 - guess) if guess else 1.0
            error = math.sqrt(variance / max(metrics[0].n, 1))
            if max(values) <= guess + _SURE * error:
                yield (
                    f"no model is told from guessing ({label} {_range(values)}, guessing gives "
                    f"{guess:.3g} ± {error:.2g}{self._beside})",
                    "Take more documents, or a task that the models can do.",
                )

    def _of_answers(self, what: str, share: Callable[[Tally], float], fix: str) -> Iterator[Reason]:
        generated = [tally for tally in self._tallies if tally.n_generated]
        shares = [share(tally) for tally in generated]
        if shares and min(shares) > MOST_SPOILT:
            yield f"{_range(shares, '.0%')} of a model's answers {what}", fix

    @property
    def _guess(self) -> float | None:
        return next((tally.guess for tally in self._tallies), None)

    @property
    def _beside(self) -> str:
        """The scores of base, average and seeds where they are others."""
        own = {self._metrics[trial.candidate.trial_id].value for trial in self._parents}
        beside = (
            f", {trial.candidate.origin} {value:.4g}"
            for trial in self._others
            if (value := self._metrics[trial.candidate.trial_id].value) not in own
        )
        return "".join(beside)

    def _are_equal(self, metrics: Sequence[Metric]) -> bool:
        """Whether the score cannot tell the parents apart, nor any document by that score."""
        if len(metrics) < 2 or any(metric.value != metrics[0].value for metric in metrics):
            return False
        first, *others = (self._values(trial, metrics[0]) for trial in self._parents)
        return all(other == first for other in others)

    def _values(self, trial: Trial, metric: Metric) -> dict[tuple[str, int], float | None]:
        name = f"{metric.key.metric},{metric.key.filter}"
        return {
            (document.task, document.doc_id): document.values.get(name)
            for document in self._documents(trial.candidate.trial_id)
            if document.task in self._names
        }


def _evaluation(trial: Trial) -> Evaluation:
    assert trial.outcome.evaluation is not None  # baselines with scores alone are looked at
    return trial.outcome.evaluation


def _share_cut(tally: Tally) -> float:
    return tally.n_cut / tally.n_generated


def _share_empty(tally: Tally) -> float:
    return tally.n_empty / tally.n_generated


def _range(values: Sequence[float], form: str = ".4g") -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"

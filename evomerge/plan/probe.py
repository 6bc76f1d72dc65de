"""An honest guess of how long a run takes: a few documents of one trial, timed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.errors import EvaluationError
from evomerge.files import write_missing
from evomerge.plan.trials import Trials
from evomerge.scratch import scratch
from evomerge.trial import Candidate, Outcome, TrialState

if TYPE_CHECKING:
    from evomerge.executors.factory import Workshop
    from evomerge.executors.worker import Worker
    from evomerge.genome.tasks import Task
    from evomerge.merge_spaces.base import MergeSpace

FEW, MORE = 4, 16  # documents of each task


@dataclass(frozen=True)
class Probe:
    """What was measured, and what it means for the whole run.

    Attributes:
        first_s: Seconds of the first trial's merge, with reading the models.
        merge_s: Seconds of a later merge.
        few: Documents scored, and the seconds it took.
        more: The same for more documents.
        n_documents: Documents of a whole trial.
        n_trials: Trials of the run, baselines among them.
        workers: Trials at once.
    """

    first_s: float
    merge_s: float
    few: tuple[int, float]
    more: tuple[int, float]
    n_documents: int
    n_trials: int
    workers: int

    @property
    def trial_s(self) -> tuple[float, float]:
        """Seconds of a trial: as fast as the added documents went, or as slow as the first few.

        Few documents fill no batch, so a whole trial should lie in between.
        """
        (few, few_s), (more, more_s) = self.few, self.more
        slow = self.n_documents * max(few_s / few, more_s / more)
        fast = self.n_documents * more_s / more
        if more > few and more_s > few_s:
            rate = (more_s - few_s) / (more - few)
            fast = min(fast, more_s + rate * max(self.n_documents - more, 0))
        return self.merge_s + fast, self.merge_s + slow

    @property
    def run_s(self) -> tuple[float, float]:
        """Seconds of the search: workers as fast as one alone, or no faster together."""
        fast, slow = self.trial_s
        return (
            self.first_s + self.n_trials * fast / self.workers,
            self.first_s + self.n_trials * slow,
        )


def probe(merge_space: MergeSpace, workshop: Workshop, trials: Trials) -> Probe:
    """Merges the recipe in the middle of the space three times and scores a few documents.

    Raises:
        EvaluationError: that trial failed.
        RunError: a model's file is gone.
    """
    with scratch() as run_dir:
        return _probe(merge_space, replace(workshop, run_dir=run_dir), trials)


def _probe(merge_space: MergeSpace, workshop: Workshop, trials: Trials) -> Probe:
    tasks = workshop.splits["tasks"]
    splits = {"few": _first(tasks, FEW), "more": _first(tasks, MORE)}
    small = replace(workshop, splits=splits)
    worker = small()
    for evaluator in worker.evaluators.values():
        evaluator.prepare()
    space = merge_space.space
    point = space.decode(space.initial)
    write_missing(workshop.run_dir or Path(), merge_space.files(point))
    candidate = Candidate(0, "probe", merge_space.recipe(point), space.initial, point)
    cold = _run(worker, candidate, "few")
    few = _run(worker, candidate, "few")
    _run(worker, candidate, "more")
    more = _run(worker, candidate, "more")
    counts = {
        split: sum(facts.n_documents for facts in evaluator.facts())
        for split, evaluator in worker.evaluators.items()
    }
    return Probe(
        cold["merge"],
        more["merge"],
        (counts["few"], few["evaluate"]),
        (counts["more"], more["evaluate"]),
        trials.n_documents(),
        trials.n_baselines + trials.budget,
        trials.workers,
    )


def _first(tasks: Iterable[Task], n_documents: int) -> tuple[Task, ...]:
    """The tasks with their first documents only, no more than the run would score."""
    return tuple(
        task.model_copy(update={"limit": min(n_documents, _most(task)), "samples": None})
        for task in tasks
    )


def _most(task: Task) -> int:
    samples = len(task.samples) if isinstance(task.samples, list) else task.samples
    return task.limit or samples or MORE


def _run(worker: Worker, candidate: Candidate, split: str) -> dict[str, float]:
    """Seconds of each stage."""
    stages = worker.run(candidate, split)
    while True:
        try:
            next(stages)
        except StopIteration as end:
            outcome: Outcome = end.value
            break
    if outcome.state is not TrialState.COMPLETE:
        raise EvaluationError(f"the probe failed ({outcome.failure})", where="--probe")
    return dict(outcome.seconds)

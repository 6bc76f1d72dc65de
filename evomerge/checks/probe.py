"""An honest guess of how long a run takes: a few documents of one trial, timed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.checks.search_plan import Trials
from evomerge.executors.worker import FIRST, Worker
from evomerge.foundations.errors import EvaluationError
from evomerge.foundations.files import write_missing
from evomerge.foundations.scratch import scratch
from evomerge.foundations.seeding import stream
from evomerge.nouns.evaluation import Outcome, TrialState
from evomerge.nouns.origin import proposed
from evomerge.nouns.trial import Candidate

if TYPE_CHECKING:
    from evomerge.evaluators.base import Evaluator
    from evomerge.executors.worker_factory import WorkerFactory
    from evomerge.genome.task_blocks import Task
    from evomerge.merge_spaces.base import MergeSpace

FEW, MORE = 4, 16  # documents of each task


@dataclass(frozen=True)
class Final:
    """What scoring on a split takes that did not steer the search.

    Attributes:
        split: Validation or holdout.
        n_trials: Trials that are scored on it, baselines among them.
        n_documents: Documents of each.
        seconds: Of all of them, by a few documents that were timed.
    """

    split: str
    n_trials: int
    n_documents: int
    seconds: float


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
        finals: What comes after the search.
    """

    first_s: float
    merge_s: float
    few: tuple[int, float]
    more: tuple[int, float]
    n_documents: int
    n_trials: int
    workers: int
    finals: tuple[Final, ...] = ()

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

    @property
    def finals_s(self) -> float:
        """Seconds after the search: validation and holdout."""
        return sum(final.seconds for final in self.finals)


def probe(
    merge_space: MergeSpace,
    worker_factory: WorkerFactory,
    trials: Trials,
    evaluators: Mapping[str, Evaluator],
) -> Probe:
    """Merges the middle of the space and points beside it, and scores a few documents.

    Merging the same again would cost nothing: every merge that is timed has parameters of its
    own.

    Args:
        merge_space: What varies.
        worker_factory: How workers are built.
        trials: How the search goes.
        evaluators: Of all splits; they learn from one document of each task what only results
            tell.

    Raises:
        GenomeError: such a document shows what is wrong with a task.
        EvaluationError: such a trial failed.
        RunError: a model's file is gone.
    """
    with scratch() as run_dir:
        return _probe(merge_space, replace(worker_factory, run_dir=run_dir), trials, evaluators)


def _probe(
    merge_space: MergeSpace,
    worker_factory: WorkerFactory,
    trials: Trials,
    evaluators: Mapping[str, Evaluator],
) -> Probe:
    tasks = worker_factory.splits["tasks"]
    splits = {split: _first(worker_factory.splits[split], MORE) for split in trials.finals}
    splits |= {"few": _first(tasks, FEW), "more": _first(tasks, MORE)}
    worker = replace(worker_factory, splits=splits)()
    for evaluator in worker.evaluators.values():
        evaluator.prepare()
    candidates = _candidates(merge_space, worker_factory)
    cold = _run(Worker(worker.merger, evaluators, worker_factory.run_dir), next(candidates), FIRST)
    _run(worker, next(candidates), "few")  # builds its prompts
    few = _run(worker, next(candidates), "few")
    _run(worker, next(candidates), "more")
    more = _run(worker, next(candidates), "more")
    counts = {
        split: sum(facts.n_documents for facts in evaluator.facts())
        for split, evaluator in worker.evaluators.items()
    }
    finals = []
    for split in trials.finals:
        spent = _run(worker, next(candidates), split)
        each = spent["merge"] + spent["evaluate"] * trials.n_documents(split) / counts[split]
        n_trials = trials.n_trials(split)
        finals.append(Final(split, n_trials, trials.n_documents(split), n_trials * each))
    return Probe(
        cold["merge"],
        (few["merge"] + more["merge"]) / 2,
        (counts["few"], few["evaluate"]),
        (counts["more"], more["evaluate"]),
        trials.n_documents(),
        trials.n_trials(),
        trials.workers,
        tuple(finals),
    )


def _candidates(merge_space: MergeSpace, worker_factory: WorkerFactory) -> Iterator[Candidate]:
    """The middle of the space, then half way to points drawn at random."""
    space, rng = merge_space.space, stream(worker_factory.seed, "probe")
    genotype = space.initial
    while True:
        point = space.decode(genotype)
        write_missing(worker_factory.run_dir or Path(), merge_space.files(point))
        yield Candidate(0, proposed("probe"), merge_space.recipe(point), genotype, point)
        genotype = (space.initial + rng.random(space.n_dims)) / 2


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

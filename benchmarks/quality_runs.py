"""What the searches of a benchmark share: one live worker, and every outcome found so far.

An outcome is kept on disk under its recipe and split, so that a merge is made once, whoever
proposes it and however often the benchmark is interrupted.
"""

from __future__ import annotations

import functools
import gzip
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from evomerge.compiler.auto_choice import with_auto
from evomerge.compiler.compiled import Compiled
from evomerge.compiler.examine import compile_genome, merge_space_of
from evomerge.compiler.make_optimizer import chosen_optimizer, obstacles
from evomerge.compiler.start import search_for
from evomerge.executors.base import ExecutorEvent, Job, JobFinished
from evomerge.executors.serial import Serial
from evomerge.executors.worker import Worker
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.files import write_atomic
from evomerge.genome.schema import Genome
from evomerge.genome.yaml_file import YamlFile
from evomerge.merge_spaces.baselines import baselines
from evomerge.nouns.evaluation import Outcome, TrialState
from evomerge.nouns.trial import Candidate
from evomerge.run.search import Search

FINAL_SPLITS = ("validation", "holdout")


class Meter:
    """Counts the forward passes of every model in this process."""

    def __init__(self) -> None:
        self.passes = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Counts what happens inside."""
        original = PreTrainedModel.__call__

        @functools.wraps(original)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.passes += 1
            return original(*args, **kwargs)

        PreTrainedModel.__call__ = counted
        try:
            yield
        finally:
            PreTrainedModel.__call__ = original


@dataclass(frozen=True)
class Found:
    """An outcome and the forward passes it took."""

    outcome: Outcome
    passes: int


@dataclass
class KnownOutcomes:
    """Every outcome found so far, one file each.

    The files are pickles: read only what this benchmark wrote.
    """

    folder: Path
    meter: Meter
    _recent: dict[str, Found] = field(default_factory=dict)

    def find(self, job: Job) -> Found | None:
        """What came of a job, None where it was never run."""
        name = self._name(job)
        if name not in self._recent and (self.folder / name).is_file():
            packed = (self.folder / name).read_bytes()
            self._recent[name] = pickle.loads(gzip.decompress(packed))
        return self._recent.get(name)

    def keep(self, job: Job, found: Found) -> None:
        """Keeps what came of a job; a failure only until this process ends."""
        name = self._name(job)
        self._recent[name] = found
        if found.outcome.state is TrialState.COMPLETE:  # a failure may be the machine's
            write_atomic(self.folder / name, gzip.compress(pickle.dumps(found)))

    def _name(self, job: Job) -> str:
        return f"{job.split}-{job.candidate.recipe.digest[:32]}.gz"


class SharedWorker(Serial):
    """Runs jobs one after the other in a worker that outlives it; known ones cost nothing.

    Attributes:
        passes_run: Forward passes of the jobs that had to be run.
    """

    def __init__(self, worker: Worker, known: KnownOutcomes) -> None:
        super().__init__(lambda: worker)
        self._worker, self._known = worker, known
        self.passes_run = 0

    def _tried(self, job: Job) -> Iterator[ExecutorEvent]:
        yield JobFinished(job, self.found(job).outcome)

    def found(self, job: Job) -> Found:
        """What came of a job, now or before."""
        known = self._known.find(job)
        if known is not None:
            return known
        before = self._known.meter.passes
        steps = self._worker.run(job.candidate, job.split, self.batch_divisor)
        try:
            while True:
                next(steps)
        except StopIteration as finished:
            outcome = finished.value
        if outcome.evaluation is not None:
            outcome = replace(outcome, evaluation=replace(outcome.evaluation, samples=()))
        found = Found(outcome, self._known.meter.passes - before)
        self.passes_run += found.passes
        self._known.keep(job, found)
        return found


@dataclass(frozen=True)
class Bench:
    """A compiled space, and what all its searches share."""

    compiled: Compiled
    worker: Worker
    known: KnownOutcomes

    @classmethod
    def of(cls, genome: Genome, source: YamlFile, known: KnownOutcomes) -> Bench:
        """Compiles a genome and builds its worker."""
        compiled = compile_genome(genome, source)
        worker = compiled.tasks.worker_factory(compiled.tasks.evaluators)
        return cls(compiled, worker, known)

    def executor(self) -> SharedWorker:
        """An executor of one search."""
        return SharedWorker(self.worker, self.known)

    def search(
        self, genome: Genome, source: YamlFile, run_dir: Path
    ) -> tuple[Search, SharedWorker]:
        """A search over the same models and tasks, with an optimizer of its own; and who runs it.

        Raises:
            EvomergeError: there is no such optimizer, or it cannot search this space.
        """
        choice = chosen_optimizer(genome, source)
        merge_space = merge_space_of(genome, self.compiled.context.models, choice)
        context = replace(self.compiled.context, genome=genome, merge_space=merge_space)
        context, choice = with_auto(context, choice)
        hindrances = obstacles(choice, context.genome, merge_space.space)
        if hindrances:
            raise EvomergeError(hindrances[0].what)
        compiled = replace(
            self.compiled, context=context, source=source, merge_space=merge_space, choice=choice
        )
        executor, search = self.executor(), search_for(compiled, run_dir)
        search.executor, search.finals = executor, {}
        return search, executor

    def scores(self, candidate: Candidate) -> dict[str, float]:
        """Split -> score, of the search documents and of those that did not steer."""
        executor, scores = self.executor(), {}
        for split in ("tasks", *FINAL_SPLITS):
            evaluation = executor.found(Job(candidate, split)).outcome.evaluation
            if evaluation is not None:
                scores[split] = self.compiled.tasks.objectives[split].scores(evaluation)[0].value
        return scores

    def spent(self, candidates: Sequence[Candidate]) -> dict[str, int]:
        """Documents and forward passes of trials, each recipe once."""
        different = {candidate.recipe.digest: candidate for candidate in candidates}
        executor = self.executor()
        found = [executor.found(Job(candidate)) for candidate in different.values()]
        evaluations = [one.outcome.evaluation for one in found if one.outcome.evaluation]
        return {
            "n_evaluated": len(found),
            "documents": sum(len(evaluation.documents) for evaluation in evaluations),
            "passes": sum(one.passes for one in found),
        }

    def baselines(self) -> dict[str, dict[str, float]]:
        """Scores of the best parent, the base and the uniform average."""
        space, kinds = self.compiled.merge_space, ("models", "base", "average")
        scores = {str(c.origin): self.scores(c) for c in baselines(space, kinds)}
        parents = [found for origin, found in scores.items() if origin.startswith("model ")]
        rows = {"best parent": max(parents, key=lambda found: found["tasks"])}
        for origin, found in scores.items():
            if not origin.startswith("model "):
                rows[origin.partition(" ")[0] if origin.startswith("base ") else origin] = found
        return rows

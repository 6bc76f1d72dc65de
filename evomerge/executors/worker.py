"""A worker: merges one candidate, scores it, and turns whatever happens into an outcome."""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from evomerge.evaluators.base import Evaluator, problems_of_split
from evomerge.executors.twins import Key, Known, Twins, digest_of
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import (
    CandidateError,
    GenomeError,
    OutOfMemoryError,
    Problem,
    RunError,
    SearchTimeoutError,
    TrialTimeoutError,
    told,
)
from evomerge.foundations.secret import without_keys
from evomerge.nouns.evaluation import Evaluation, Metric, Outcome, TrialState
from evomerge.nouns.trial import Candidate
from evomerge.recipe.kept_stages import Made, folded
from evomerge.recipe.own_names import in_places, located
from evomerge.recipe.plain import Recipe

if TYPE_CHECKING:
    from evomerge.merging.base import Merger
    from evomerge.merging.live_model import LiveModel

Stages = Generator[str, None, Outcome]
FIRST = "first document"  # as a split: one document of every task of every split


class Worker:
    """One live model and the evaluators that score it.

    Args:
        merger: Writes a recipe's weights into the live model.
        evaluators: Split name -> evaluator.
        run_dir: The run folder, in which recipes may name models and adapters; None: they do not.
        twins: Remembers evaluations by the weights of candidates; None: each is scored.
        made: Folders of models that earlier stages made, and how.
        places: Folder of a model -> where this machine has its files, if not there.
    """

    def __init__(
        self,
        merger: Merger,
        evaluators: Mapping[str, Evaluator],
        run_dir: Path | None = None,
        twins: Twins | None = None,
        made: Made = MappingProxyType({}),
        places: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.merger = merger
        self.evaluators = evaluators
        self._run_dir = run_dir
        self._twins = twins
        self._made, self._places = made, places
        self._is_before_search = False

    def run(
        self,
        candidate: Candidate,
        split: str,
        batch_divisor: int = 1,
        deadline: Deadline | None = None,
    ) -> Stages:
        """Merges and scores; never raises for what a candidate can cause.

        Args:
            candidate: What to try.
            split: Which tasks, or ``FIRST``.
            batch_divisor: What the batch is divided by, as earlier trials needed.
            deadline: By when; looked at between tensors and between forward passes.

        Yields:
            The name of each stage as it begins.

        Returns:
            What came of it.

        Raises:
            RunError: what failed would fail every candidate: a model's file is gone.
            SearchTimeoutError: the search is over.
            GenomeError: the first document of a task shows what is wrong with it.
        """
        clock, deadline = _Stages(), deadline or Deadline()
        try:
            yield clock.enter("merge")
            recipe = located(folded(candidate.recipe, self._made), self._run_dir)
            recipe = in_places(recipe, self._places) if self._places else recipe
            self._make_room(candidate)
            model = self.merger.merge(recipe, deadline)
            key = None
            if self._twins is not None:
                key = self._twins.key_of(model, split, batch_divisor)
                model, twin = self._compared(self._twins, key, recipe, model, deadline)
                if twin is not None:
                    return clock.complete(twin.evaluation, twin.batch_divisor)
            yield clock.enter("evaluate")
            needed = batch_divisor
            try:
                evaluation = self._evaluate(split, model, deadline, needed)
            except OutOfMemoryError:
                needed *= 2
                yield clock.enter("evaluate with half the batch")
                evaluation = self._evaluate(split, model, deadline, needed)
            if self._twins is not None and key is not None:
                self._twins.keep(key, Known(recipe, evaluation, needed))
        except (RunError, SearchTimeoutError):
            raise
        # Where half the batch did not help either, the batch was not what was wrong.
        except CandidateError as error:
            return clock.failed(_reason(error.problems[0]), batch_divisor)
        # One bad candidate never ends a run, nor a metric that calls exit(); the reason is kept.
        except (Exception, SystemExit) as error:
            if split == FIRST and isinstance(error, GenomeError):
                raise
            return clock.failed(told(error), batch_divisor)
        return clock.complete(evaluation, needed)

    def _make_room(self, candidate: Candidate) -> None:
        """Where the search begins, what the baselines' methods keep has no use any more."""
        if self._is_before_search and not candidate.is_baseline:
            self.merger.forget_structures(candidate.recipe)
        self._is_before_search = candidate.is_baseline

    def _compared(
        self, twins: Twins, key: Key, recipe: Recipe, model: LiveModel, deadline: Deadline
    ) -> tuple[LiveModel, Known | None]:
        """The model, and what is known of an earlier one with the very same weights."""
        suspect = twins.suspect(key, recipe)
        if suspect is None:
            return model, None
        weights = digest_of(model)
        del model  # it is overwritten now
        try:
            earlier = self.merger.merge(suspect.recipe, deadline)
            if digest_of(earlier) == weights:
                return earlier, suspect
            del earlier
        except (SearchTimeoutError, TrialTimeoutError):
            raise
        except Exception:  # its files may be gone since, and this candidate needs none of them
            pass
        return self.merger.merge(recipe, deadline), None

    def _evaluate(
        self, split: str, model: LiveModel, deadline: Deadline, batch_divisor: int
    ) -> Evaluation:
        if split == FIRST:
            return self._first_documents(model, deadline)
        return self.evaluators[split].evaluate(model, deadline, batch_divisor)

    def _first_documents(self, model: LiveModel, deadline: Deadline) -> Evaluation:
        """The metric of each task, split after split."""
        metrics: list[Metric] = []
        problems: list[Problem] = []
        for split, evaluator in self.evaluators.items():
            try:
                metrics += evaluator.first_documents(model, deadline)
            except GenomeError as error:
                problems += problems_of_split(error, split)
        if problems:
            raise GenomeError.of(problems)
        return Evaluation(tuple(metrics))


def _reason(problem: Problem) -> str:
    """What failed, and the tensor or task where the error names one."""
    is_told = problem.where in ("", "merge", "evaluate")  # the stage says that already
    return problem.what if is_told else f"{problem.where}: {problem.what}"


class _Stages:
    """The stage a trial is in, and the seconds of those it left."""

    def __init__(self) -> None:
        self._stage = ""
        self._since = 0.0
        self._seconds: dict[str, float] = {}

    def enter(self, stage: str) -> str:
        self.leave()
        self._stage, self._since = stage, time.perf_counter()
        return stage

    def leave(self) -> dict[str, float]:
        if self._stage:
            name = self._stage.partition(" ")[0]
            spent = time.perf_counter() - self._since
            self._seconds[name] = self._seconds.get(name, 0.0) + spent
            self._stage = ""
        return self._seconds

    def complete(self, evaluation: Evaluation, batch_divisor: int) -> Outcome:
        return Outcome(TrialState.COMPLETE, evaluation, "", self.leave(), batch_divisor)

    def failed(self, reason: str, batch_divisor: int) -> Outcome:
        failure = without_keys(f"{self._stage}: {reason}")
        trace = without_keys(traceback.format_exc())  # it quotes lines of code
        return Outcome(TrialState.FAILED, None, failure, self.leave(), batch_divisor, trace)

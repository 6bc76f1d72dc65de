"""A worker: merges one candidate, scores it, and turns whatever happens into an outcome."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING

from evomerge.errors import CandidateError
from evomerge.evaluators.base import Evaluator
from evomerge.trial import Candidate, Outcome, TrialState

if TYPE_CHECKING:
    from evomerge.merging.resident import ResidentMerger


class Worker:
    """One live model and the evaluators that score it.

    Args:
        merger: Writes a recipe's weights into the live model.
        evaluators: Split name -> evaluator.
    """

    def __init__(self, merger: ResidentMerger, evaluators: Mapping[str, Evaluator]) -> None:
        self.merger = merger
        self.evaluators = evaluators

    def run(self, candidate: Candidate, split: str) -> Generator[str, None, Outcome]:
        """Merges and scores; never raises for what a candidate can cause.

        Args:
            candidate: What to try.
            split: Which tasks.

        Yields:
            The name of each stage as it begins.

        Returns:
            What came of it.
        """
        seconds: dict[str, float] = {}
        stage, started = "merge", time.perf_counter()
        yield stage
        try:
            model = self.merger.merge(candidate.recipe)
            seconds[stage] = time.perf_counter() - started
            stage, started = "evaluate", time.perf_counter()
            yield stage
            evaluation = self.evaluators[split].evaluate(model)
            seconds[stage] = time.perf_counter() - started
        except CandidateError as error:
            return Outcome(
                TrialState.FAILED, failure=f"{stage}: {error.problems[0].what}", seconds=seconds
            )
        except Exception as error:  # one bad candidate never ends a run; the reason is kept
            reason = f"{stage}: {type(error).__name__}: {error}"
            return Outcome(TrialState.FAILED, failure=reason, seconds=seconds)
        return Outcome(TrialState.COMPLETE, evaluation, seconds=seconds)

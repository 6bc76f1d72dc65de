"""A worker turns whatever a candidate causes into an outcome, and only that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evomerge.executors.worker import Worker
from evomerge.executors.worker_factory import WorkerFactory
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import (
    EvaluationError,
    LostFileError,
    MergeError,
    OutOfMemoryError,
    SearchTimeoutError,
    TrialTimeoutError,
)
from evomerge.foundations.scratch import scratch_root
from evomerge.genome.task_blocks import EvaluationBlock
from evomerge.nouns.evaluation import Evaluation, TrialState
from evomerge.nouns.trial import Candidate
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.old_origins import origin_in

CANDIDATE = Candidate(0, origin_in("optimizer"), Recipe({"merge_method": "linear"}))


class Scripted:
    """Merger and evaluator in one: raises what it is told to, one error per call."""

    def __init__(self, *, merge=(), evaluate=()):
        self.errors = {"merge": list(merge), "evaluate": list(evaluate)}
        self.divisors = []
        self.deadlines = []

    def _next(self, stage):
        error = self.errors[stage].pop(0) if self.errors[stage] else None
        if error is not None:
            raise error

    def merge(self, recipe, deadline):
        self.deadlines.append(deadline)
        self._next("merge")
        return "model"

    def evaluate(self, model, deadline, batch_divisor):
        self.divisors.append(batch_divisor)
        self.deadlines.append(deadline)
        self._next("evaluate")
        return Evaluation(())


def finished(script, split="tasks", divisor=1, deadline=None):
    worker = Worker(script, {"tasks": script, "holdout": script})
    steps, stages = worker.run(CANDIDATE, split, divisor, deadline), []
    while True:
        try:
            stages.append(next(steps))
        except StopIteration as end:
            return end.value, stages


def test_what_torch_compiles_lies_with_the_temporary_files_of_the_run(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # what is set now goes with the test
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    worker_factory = WorkerFactory({}, EvaluationBlock(), (), 0, "cpu")
    worker_factory()
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == scratch_root()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    worker_factory()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "mine"


def test_memory_that_runs_out_halves_the_batch_and_tries_once_more():
    script = Scripted(evaluate=[OutOfMemoryError("out of memory: 2 GiB")])
    outcome, stages = finished(script, divisor=2)
    assert outcome.state is TrialState.COMPLETE
    assert outcome.batch_divisor == 4
    assert script.divisors == [2, 4]
    assert stages == ["merge", "evaluate", "evaluate with half the batch"]
    assert set(outcome.seconds) == {"merge", "evaluate"}


def test_memory_that_runs_out_twice_fails_the_trial():
    shortage = OutOfMemoryError("out of memory: 2 GiB")
    script = Scripted(evaluate=[shortage, shortage])
    outcome, _ = finished(script)
    assert outcome.failure == "evaluate with half the batch: out of memory: 2 GiB"
    assert outcome.batch_divisor == 1  # the smaller batch did not help: it is not kept
    assert script.divisors == [1, 2]


@pytest.mark.parametrize(
    ("stage", "error", "reason"),
    [
        (
            "merge",
            MergeError("the merged weights are not finite", where="lm_head.weight"),
            "merge: lm_head.weight: the merged weights are not finite",
        ),
        ("merge", MergeError("no tokenizer", where="merge"), "merge: no tokenizer"),
        ("merge", ZeroDivisionError("by zero"), "merge: ZeroDivisionError: by zero"),
        ("evaluate", EvaluationError("every log-likelihood is NaN"), "evaluate: every log"),
        ("evaluate", TrialTimeoutError("took longer than 3 seconds"), "evaluate: took longer"),
        ("evaluate", KeyError("exact"), "evaluate: KeyError: 'exact'"),
        ("evaluate", MemoryError(), "evaluate: MemoryError"),
        ("merge", AssertionError(), "merge: AssertionError"),
    ],
)
def test_what_a_candidate_causes_is_a_failed_outcome_with_its_reason(stage, error, reason):
    outcome, _ = finished(Scripted(**{stage: [error]}))
    assert outcome.state is TrialState.FAILED
    assert outcome.failure.startswith(reason)
    assert outcome.evaluation is None


def test_what_would_fail_every_candidate_is_raised():
    with pytest.raises(LostFileError, match="is gone"):
        finished(Scripted(merge=[LostFileError("is gone")]))


@pytest.mark.parametrize("stage", ["merge", "evaluate"])
def test_a_search_that_is_over_says_nothing_of_the_candidate(stage):
    with pytest.raises(SearchTimeoutError):
        finished(Scripted(**{stage: [SearchTimeoutError("the time of the search is over")]}))


@pytest.mark.parametrize("split", ["tasks", "holdout"])
def test_every_step_of_a_trial_is_given_its_deadline_on_every_split(split):
    script, deadline = Scripted(), Deadline(1.0)
    finished(script, split, deadline=deadline)
    assert script.deadlines == [deadline, deadline]

"""The loop: baselines, then ask, evaluate, tell, record, until the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evomerge.best import write_best, write_front
from evomerge.errors import LedgerError, RunError
from evomerge.events import Event, FinalScored, RunFinished, RunStarted, TrialFinished
from evomerge.executors.base import Executor, Job, JobFinished
from evomerge.ledger import Ledger
from evomerge.merge_spaces.base import MergeSpace
from evomerge.objective import Objective
from evomerge.optimizers.base import Optimizer
from evomerge.standing import Standing, finalists, winners
from evomerge.trial import Candidate, Outcome, Trial, TrialState

Evaluating = Generator[Event, None, list[Outcome]]


@dataclass(frozen=True)
class Limits:
    """When a search ends.

    Attributes:
        budget: Trials the optimizer proposes.
        patience: Trials without a better one, None for no such limit.
        timeout: Seconds, None for no such limit; the running trial is finished.
    """

    budget: int
    patience: int | None = None
    timeout: float | None = None


class Search:
    """One run: proposes, has it judged, remembers.

    State lives in the ledger; a search over a folder that holds trials already goes through
    the same steps and takes their outcomes from it.

    Args:
        merge_space: Points -> recipes.
        optimizer: Who proposes.
        objective: Metrics -> scores and losses.
        executor: Where trials run.
        ledger: The history.
        baselines: The first trials, made by no optimizer.
        limits: When to stop.
        finals: Split -> objective, for the splits beside ``tasks`` that have tasks.
        warnings: Sentences for the user.
    """

    def __init__(
        self,
        *,
        merge_space: MergeSpace,
        optimizer: Optimizer,
        objective: Objective,
        executor: Executor,
        ledger: Ledger,
        baselines: Sequence[Candidate],
        limits: Limits,
        finals: Mapping[str, Objective] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.merge_space = merge_space
        self.optimizer = optimizer
        self.executor = executor
        self.ledger = ledger
        self.baselines = tuple(baselines)
        self.limits = limits
        self.finals = dict(finals or {})
        self.warnings = tuple(warnings)
        self.standing = Standing(objective)
        self._outcomes: dict[str, Outcome] = {}  # by recipe digest: none is evaluated twice

    def run(self) -> Iterator[Event]:
        """Yields what happens until nothing is left to do; the executor is closed at the end."""
        try:
            yield from self._run()
        finally:
            self.executor.close()

    def _run(self) -> Iterator[Event]:
        started = time.monotonic()
        yield RunStarted(
            str(self.ledger.folder.path),
            self.limits.budget,
            self.merge_space.space.n_dims,
            len(self.ledger.trials),
            self.warnings,
        )
        yield from self._run_baselines()
        n_proposed = 0
        while (reason := self._reason_to_stop(n_proposed, started)) is None:
            genotypes = self.optimizer.ask()
            wanted = genotypes[: self.limits.budget - n_proposed]
            first = len(self.baselines) + n_proposed
            candidates = [self._candidate(first + i, g) for i, g in enumerate(wanted)]
            outcomes = yield from self._evaluate(candidates)
            n_proposed += len(candidates)
            if len(wanted) == len(genotypes):
                self._tell(candidates, outcomes)
        yield from self._run_finals()
        yield RunFinished(reason, len(self.ledger.trials))

    def _reason_to_stop(self, n_proposed: int, started: float) -> str | None:
        limits = self.limits
        if n_proposed >= limits.budget:
            return "budget"
        if limits.timeout is not None and time.monotonic() - started >= limits.timeout:
            return "timeout"
        if limits.patience is not None and n_proposed - self._last_improvement() >= limits.patience:
            return "patience"
        return None

    def _run_baselines(self) -> Generator[Event, None, None]:
        outcomes = yield from self._evaluate(self.baselines)
        if all(outcome.state is TrialState.FAILED for outcome in outcomes):
            raise RunError(
                f"no baseline could be scored; the first failed with: {outcomes[0].failure}",
                where=str(self.ledger.folder.path),
                fix="Mend the models or the tasks (every candidate would fail likewise), and start "
                "anew with another --run-dir.",
            )
        self.standing = self.standing.with_anchors()
        known = [
            (candidate, outcome)
            for candidate, outcome in zip(self.baselines, outcomes, strict=True)
            if candidate.genotype is not None
        ]
        if known:
            self._tell([c for c, _ in known], [o for _, o in known])

    def _candidate(self, trial_id: int, genotype: NDArray[np.float64]) -> Candidate:
        point = self.merge_space.space.decode(genotype)
        return Candidate(trial_id, "optimizer", self.merge_space.recipe(point), genotype, point)

    def _tell(self, candidates: Sequence[Candidate], outcomes: Sequence[Outcome]) -> None:
        genotypes = np.stack([c.genotype for c in candidates if c.genotype is not None])
        losses = np.stack([self.standing.objective.losses(outcome) for outcome in outcomes])
        self.optimizer.tell(genotypes, losses)
        ids = tuple(candidate.trial_id for candidate in candidates)
        if ids not in self.ledger.told:
            self.ledger.record_told(ids)

    def _evaluate(self, candidates: Sequence[Candidate]) -> Evaluating:
        """Outcomes in the order of the candidates; what is known already costs nothing."""
        outcomes: dict[int, Outcome] = {}
        waiting: dict[str, Candidate] = {}
        for candidate in candidates:
            recorded = self._recorded(candidate)
            if recorded is not None:
                outcomes[candidate.trial_id] = recorded
                yield self._finish(candidate, recorded, was_recorded=True)
            elif candidate.recipe.digest not in self._outcomes:
                waiting.setdefault(candidate.recipe.digest, candidate)
        for event in self.executor.run([Job(candidate) for candidate in waiting.values()]):
            if isinstance(event, JobFinished):
                outcomes[event.job.candidate.trial_id] = event.outcome
                yield self._finish(event.job.candidate, event.outcome)
            else:
                yield event
        for candidate in candidates:
            if candidate.trial_id not in outcomes:
                twin = replace(self._outcomes[candidate.recipe.digest], seconds={})
                outcomes[candidate.trial_id] = twin
                yield self._finish(candidate, twin)
        return [outcomes[candidate.trial_id] for candidate in candidates]

    def _recorded(self, candidate: Candidate) -> Outcome | None:
        trial = self.ledger.trials.get(candidate.trial_id)
        if trial is None:
            return None
        if trial.candidate.recipe.digest != candidate.recipe.digest:
            raise LedgerError(
                f"trial {candidate.trial_id} is another one than the optimizer proposes now",
                where=str(self.ledger.folder.ledger),
                fix="Resume with the genome and the versions of the ledger's first line, or "
                "start a new run folder.",
            )
        return trial.outcome

    def _finish(
        self, candidate: Candidate, outcome: Outcome, *, was_recorded: bool = False
    ) -> TrialFinished:
        trial = Trial(candidate, outcome)
        if not was_recorded:
            self.ledger.record_trial(trial)
        self._outcomes[candidate.recipe.digest] = outcome
        self.standing = self.standing.with_trial(trial)
        best = self.standing.best
        is_improved = any(winner is trial for winner in self._leaders())
        if is_improved and best is not None and not was_recorded:
            self._write_winner(best)
        scores = self.standing.scores(trial)
        is_best = is_improved and not self.standing.is_multi
        return TrialFinished(candidate, outcome, scores, is_best, was_recorded)

    def _leaders(self) -> list[Trial]:
        """The best trial so far, or the front."""
        if self.standing.is_multi:
            return self.standing.front()
        best = self.standing.best
        return [] if best is None else [best]

    def _last_improvement(self) -> int:
        """How many trials were proposed when the last winner was; the same in any order."""
        newest = max((trial.candidate.trial_id for trial in self._leaders()), default=0)
        return max(newest + 1 - len(self.baselines), 0)

    def _write_winner(self, trial: Trial) -> None:
        if self.standing.is_multi:
            write_front(self.ledger, self.standing)
        write_best(self.ledger, self.standing, trial)

    # After the search

    def _run_finals(self) -> Generator[Event, None, None]:
        """Validation picks the winner among the best, holdout looks at it once."""
        if "validation" in self.finals:
            yield from self._score("validation", finalists(self.standing))
        chosen = self._winners()
        if "holdout" in self.finals:
            yield from self._score("holdout", chosen)
        if chosen:
            self._write_winner(chosen[0])

    def _winners(self) -> list[Trial]:
        validated = {
            trial_id: outcome
            for (split, trial_id), outcome in self.ledger.finals.items()
            if split == "validation"
        }
        return winners(self.standing, self.finals.get("validation"), validated)

    def _score(self, split: str, trials: Sequence[Trial]) -> Generator[Event, None, None]:
        """Scores trials and the baselines beside them on a split."""
        jobs = []
        baselines = [t for t in self.standing.complete if t.candidate.is_baseline]
        for trial in {t.candidate.trial_id: t for t in (*trials, *baselines)}.values():
            recorded = self.ledger.finals.get((split, trial.candidate.trial_id))
            if recorded is None:
                jobs.append(Job(trial.candidate, split))
            else:
                yield self._final(trial.candidate, split, recorded)
        for event in self.executor.run(jobs):
            if isinstance(event, JobFinished):
                self.ledger.record_final(event.job.candidate.trial_id, split, event.outcome)
                yield self._final(event.job.candidate, split, event.outcome)

    def _final(self, candidate: Candidate, split: str, outcome: Outcome) -> FinalScored:
        evaluation = outcome.evaluation
        scores = () if evaluation is None else self.finals[split].scores(evaluation)
        return FinalScored(candidate, split, scores)

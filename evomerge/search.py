"""The loop: baselines, then ask, evaluate, tell, record, until the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evomerge.best import write_best, write_front
from evomerge.errors import LedgerError, RunError
from evomerge.events import Event, FinalScored, Notice, RunFinished, RunStarted, TrialFinished
from evomerge.executors.base import Executor, Job, JobFinished
from evomerge.genome.schema import N_FINALISTS
from evomerge.ledger import Ledger
from evomerge.merge_spaces.base import MergeSpace
from evomerge.objective import Objective
from evomerge.optimizers.base import Optimizer
from evomerge.parents import is_parent, samples_text, why_hopeless
from evomerge.standing import Standing, anchored, finalists, winners
from evomerge.trial import Candidate, Outcome, Trial

Evaluating = Generator[Event, None, list[Outcome]]


@dataclass(frozen=True)
class Limits:
    """How far a search goes.

    Attributes:
        budget: Trials the optimizer proposes.
        patience: Trials without a better one, None for no such limit.
        timeout: Seconds, None for no such limit; the running trial is finished.
        finalists: Best trials that are scored again after the search.
    """

    budget: int
    patience: int | None = None
    timeout: float | None = None
    finalists: int = N_FINALISTS


class _StoppedError(Exception):
    """The user asked the run to stop, and the running trials are finished."""


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
        warnings: What the user should think about.
        notes: What the user should know.
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
        notes: Sequence[str] = (),
    ) -> None:
        self.merge_space = merge_space
        self.optimizer = optimizer
        self.executor = executor
        self.ledger = ledger
        self.baselines = tuple(baselines)
        self.limits = limits
        self.finals = dict(finals or {})
        self.warnings = tuple(warnings)
        self.notes = tuple(notes)
        self.standing = Standing(objective)
        self._trial_of: dict[str, int] = {}  # recipe digest -> trial: none is evaluated twice
        recorded = [*(trial.outcome for trial in ledger.trials.values()), *ledger.finals.values()]
        executor.batch_divisor = max((outcome.batch_divisor for outcome in recorded), default=1)
        self._is_stopping = False

    def run(self) -> Iterator[Event]:
        """Yields what happens until nothing is left to do; then frees executor and folder.

        Raises:
            RunError: the run cannot go on; the same command continues it once that is mended.
        """
        try:
            yield from self._run()
        except _StoppedError:
            yield RunFinished("stopped", len(self.ledger.trials))
        finally:
            self.executor.close()
            self.ledger.close()

    def stop(self) -> None:
        """Ends the run when the trials that are running are finished."""
        self._is_stopping = True
        self.executor.stop()

    def _run(self) -> Iterator[Event]:
        started = time.monotonic()
        yield RunStarted(
            str(self.ledger.folder.path),
            self.limits.budget,
            self.merge_space.space.n_dims,
            len(self.ledger.trials),
            self.warnings,
            self.notes,
        )
        yield from self._run_baselines()
        n_proposed = 0
        while (reason := self._reason_to_stop(n_proposed, started)) is None:
            if self._is_stopping:
                raise _StoppedError
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
        self._check_parents()
        self.standing = self.standing.with_anchors()
        known = [
            (candidate, outcome)
            for candidate, outcome in zip(self.baselines, outcomes, strict=True)
            if candidate.genotype is not None
        ]
        if known:
            self._tell([c for c, _ in known], [o for _, o in known])

    def _check_parents(self) -> None:
        """Stops a search that could not tell one merge from another."""
        parents = [trial for trial in self.standing.trials if is_parent(trial)]
        documents = {
            t.candidate.trial_id: self.ledger.documents(t.candidate.trial_id) for t in parents
        }
        reason = why_hopeless(parents, documents)
        if not reason:
            return
        samples = next(
            (t.outcome.evaluation.samples for t in parents if t.outcome.evaluation is not None), ()
        )
        shown = f" What a model answered:\n{samples_text(samples)}" if samples else ""
        raise RunError(
            f"{reason}; no search can tell their merges apart",
            where=str(self.ledger.folder.path),
            fix="Look at models, chat template, answer format and the metric's filter; then start "
            f"anew with another --run-dir.{shown}",
        )

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
            known = recorded or self.ledger.known_outcome("tasks", candidate.recipe.digest)
            if known is not None:
                outcomes[candidate.trial_id] = known
                yield self._finish(candidate, known, was_recorded=recorded is not None)
            elif candidate.recipe.digest not in self._trial_of:
                waiting.setdefault(candidate.recipe.digest, candidate)
        for event in self._working([Job(candidate) for candidate in waiting.values()]):
            if isinstance(event, JobFinished):
                outcomes[event.job.candidate.trial_id] = event.outcome
                yield self._finish(event.job.candidate, event.outcome)
            else:
                yield event
        for candidate in candidates:
            if candidate.trial_id not in outcomes:
                twin = self._twin(candidate)
                outcomes[candidate.trial_id] = twin
                yield self._finish(candidate, twin)
        return [outcomes[candidate.trial_id] for candidate in candidates]

    def _working(self, jobs: Sequence[Job]) -> Iterator[Event | JobFinished]:
        """What the executor does; ends the run where it was told to stop."""
        n_open = len(jobs)
        for event in self.executor.run(jobs):
            yield event
            if isinstance(event, JobFinished):
                n_open -= 1
                yield from self._batch_news(event.outcome)
        if self._is_stopping and n_open:
            raise _StoppedError

    def _batch_news(self, outcome: Outcome) -> Iterator[Event]:
        """A batch that was too large once stays smaller: scores must not depend on luck."""
        if outcome.batch_divisor > self.executor.batch_divisor:
            self.executor.batch_divisor = outcome.batch_divisor
            yield Notice(
                f"memory ran out: the batch is divided by {outcome.batch_divisor} from now on; "
                "set evaluation.batch_size to choose it yourself"
            )

    def _twin(self, candidate: Candidate) -> Outcome:
        """The outcome of the trial that had the same recipe, with its documents."""
        trial_id = self._trial_of[candidate.recipe.digest]
        outcome = replace(self.ledger.trials[trial_id].outcome, seconds={})
        if outcome.evaluation is None:
            return outcome
        documents = self.ledger.documents(trial_id)
        return replace(outcome, evaluation=replace(outcome.evaluation, documents=documents))

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
        self._trial_of.setdefault(candidate.recipe.digest, candidate.trial_id)
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
            best = finalists(self.standing, self.limits.finalists)
            yield from self._score("validation", best)
        chosen = self._winners()
        if "holdout" in self.finals:
            yield from self._score("holdout", chosen)
        if chosen:
            self._write_winner(chosen[0])

    def _winners(self) -> list[Trial]:
        validated, count = self.ledger.final_outcomes("validation"), self.limits.finalists
        return winners(self.standing, self.finals.get("validation"), validated, count)

    def _score(self, split: str, trials: Sequence[Trial]) -> Generator[Event, None, None]:
        """Scores trials and the baselines beside them on a split."""
        jobs = []
        baselines = [t for t in self.standing.complete if t.candidate.is_baseline]
        # Baselines first: an objective may be scaled by them.
        for trial in {t.candidate.trial_id: t for t in (*baselines, *trials)}.values():
            candidate = trial.candidate
            recorded = self.ledger.finals.get((split, candidate.trial_id))
            known = self.ledger.known_outcome(split, candidate.recipe.digest)
            if recorded is not None:
                yield self._final(candidate, split, recorded)
            elif known is not None:
                yield self._record_final(candidate, split, known)
            else:
                jobs.append(Job(candidate, split))
        for event in self._working(jobs):
            if isinstance(event, JobFinished):
                yield self._record_final(event.job.candidate, split, event.outcome)
            else:
                yield event

    def _record_final(self, candidate: Candidate, split: str, outcome: Outcome) -> FinalScored:
        self.ledger.record_final(candidate.trial_id, split, outcome)
        return self._final(candidate, split, outcome)

    def _final(self, candidate: Candidate, split: str, outcome: Outcome) -> FinalScored:
        evaluation = outcome.evaluation
        outcomes = self.ledger.final_outcomes(split)
        objective = anchored(self.finals[split], self.standing.trials, outcomes)
        scores = () if evaluation is None else objective.scores(evaluation)
        return FinalScored(candidate, split, scores)

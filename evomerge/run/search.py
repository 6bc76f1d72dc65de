"""The loop: baselines, then ask, evaluate, tell, record, until the budget is spent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from evomerge.executors.base import Executor, Job, JobFinished, JobGivenUp
from evomerge.foundations.alarm import OverdueError, ended_in_time
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.files import write_missing
from evomerge.merge_spaces.base import MergeSpace
from evomerge.nouns.events import (
    Event,
    Notice,
    Proposing,
    RunFinished,
    RunStarted,
    TrialFinished,
)
from evomerge.nouns.objective import Objective
from evomerge.nouns.trial import Candidate, Outcome, Trial
from evomerge.optimizers.base import Optimizer
from evomerge.run.best import write_best, write_front
from evomerge.run.finals import Finals
from evomerge.run.leaderboard import Standing
from evomerge.run.ledger.history import Ledger
from evomerge.run.limits import Limits
from evomerge.run.proposer import Proposer
from evomerge.run.steering import look_at_tasks

Evaluating = Generator[Event, None, list[Outcome]]


class _StoppedError(Exception):
    """The user asked the run to stop, and the running trials are finished."""


class _OverError(Exception):
    """The time of the search is over, and what ran is given up."""


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
        is_strict: Whether a task that cannot steer ends the run after the baselines.
        trackers: Hear every event; what they yield is told too.
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
        is_strict: bool = False,
        trackers: Sequence[Callable[[Event], Iterable[Event]]] = (),
    ) -> None:
        self.merge_space = merge_space
        self.proposer = Proposer(optimizer, merge_space, ledger)
        self.executor = executor
        self.ledger = ledger
        self.baselines = tuple(baselines)
        self.limits = limits
        self.finals = dict(finals or {})
        self.warnings = tuple(warnings)
        self.notes = tuple(notes)
        self.is_strict = is_strict
        self.trackers = tuple(trackers)
        self.standing = Standing(objective)
        self._trial_of: dict[str, int] = {}  # recipe digest -> trial: none is evaluated twice
        self._n_recorded = len(ledger.trials)
        self._deadline = Deadline()  # of the search; its time begins with the run
        self._is_stopping = False
        self._is_winner_written = True

    def run(self) -> Iterator[Event]:
        """Yields what happens until nothing is left to do; then frees executor and folder.

        Raises:
            RunError: the run cannot go on; the same command continues it once that is mended.
        """
        try:
            with closing(self._run()) as events:
                yield from self._heard(events)
        except _StoppedError:
            yield from self._heard([RunFinished("stopped", len(self.ledger.trials))])
        finally:
            self.executor.close()
            self.ledger.close()

    def stop(self) -> None:
        """Ends the run when the trials that are running are finished."""
        self._is_stopping = True
        self.executor.stop()

    def _heard(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events, each heard by the trackers once the caller has seen it."""
        for event in events:
            yield event
            for hear in self.trackers:
                yield from hear(event)

    def _run(self) -> Generator[Event, None, None]:
        self._deadline = self.limits.deadline(self.ledger, self.executor.n_workers)
        yield RunStarted(
            str(self.ledger.folder.path),
            self.limits.budget,
            self.merge_space.space.n_dims,
            self._n_recorded,
            self.warnings,
            self.notes,
        )
        try:
            yield from self._run_baselines()
            reason = yield from self._propose()
        except _OverError:
            reason = self._time_is_over()
        if reason == "timeout" and not self.ledger.ended:  # the others follow from the trials
            self.ledger.record_end(reason)
        yield from self._run_finals()
        yield RunFinished(reason, len(self.ledger.trials))

    def _propose(self) -> Generator[Event, None, str]:
        """Generation after generation; why there is no further one."""
        n_proposed = 0
        while (reason := self._reason_to_stop(n_proposed)) is None:
            if self._is_stopping:
                raise _StoppedError
            if self.proposer.optimizer.activity:
                yield Proposing(self.proposer.optimizer.activity)
            asked = self._ask(n_proposed)
            candidates = asked[: self.limits.budget - n_proposed]
            outcomes = yield from self._evaluate(candidates)
            n_proposed += len(candidates)
            if len(candidates) == len(asked):
                self.proposer.tell(candidates, outcomes, self.standing.objective)
        return reason

    def _ask(self, n_proposed: int) -> list[Candidate]:
        """The next candidates; what was recorded before is asked for again however long it takes.

        An epoch of training that is interrupted leaves the model of the trials half way.
        """
        deadline = Deadline() if self._is_replaying(n_proposed) else self._deadline
        first = len(self.baselines) + n_proposed
        try:
            return ended_in_time(deadline, lambda: self.proposer.ask(first), "the optimizer")
        except OverdueError:
            self.executor.forget_workers()
            raise _OverError from None

    def _is_replaying(self, n_proposed: int) -> bool:
        return len(self.baselines) + n_proposed < self._n_recorded

    def _reason_to_stop(self, n_proposed: int) -> str | None:
        limits = self.limits
        if n_proposed >= limits.budget:
            return "budget"
        if not self._is_replaying(n_proposed):
            if self.ledger.ended:
                return self.ledger.ended
            if self._deadline.left <= 0:
                return "timeout"
        if limits.patience is not None and n_proposed - self._last_improvement() >= limits.patience:
            return "patience"
        return "converged" if self.proposer.optimizer.is_finished else None

    def _time_is_over(self) -> str:
        """Why a search ends whose last trials are given up.

        Raises:
            RunError: not one baseline was scored.
        """
        if not self.standing.complete:
            raise self.limits.too_short()
        if len(self.standing.trials) < len(self.baselines):
            self.standing = self.standing.with_anchors()
        return "timeout"

    def _run_baselines(self) -> Generator[Event, None, None]:
        outcomes = yield from self._evaluate(self.baselines)
        yield from look_at_tasks(self.standing, self.ledger, is_strict=self.is_strict)
        self.standing = self.standing.with_anchors()
        known = [
            (candidate, outcome)
            for candidate, outcome in zip(self.baselines, outcomes, strict=True)
            if candidate.genotype is not None
        ]
        if known:
            candidates, known_outcomes = zip(*known, strict=True)
            self.proposer.tell(candidates, known_outcomes, self.standing.objective)

    def _evaluate(self, candidates: Sequence[Candidate]) -> Evaluating:
        """Outcomes in the order of the candidates; what is known already costs nothing."""
        outcomes: dict[int, Outcome] = {}
        waiting: dict[str, Candidate] = {}
        for candidate in candidates:
            write_missing(self.ledger.folder.path, self.merge_space.files(candidate.point))
            recorded = self.ledger.recorded_outcome(candidate)
            known = recorded or self.ledger.known_outcome("tasks", candidate.recipe.digest)
            if known is not None:
                outcomes[candidate.trial_id] = known
                yield from self._finish(candidate, known, was_recorded=recorded is not None)
            elif candidate.recipe.digest not in self._trial_of:
                waiting.setdefault(candidate.recipe.digest, candidate)
        end = self._deadline.search_end
        for event in self._working([Job(one, search_end=end) for one in waiting.values()]):
            if isinstance(event, JobFinished):
                outcomes[event.job.candidate.trial_id] = event.outcome
                yield from self._finish(event.job.candidate, event.outcome)
            else:
                yield event
        for candidate in candidates:
            if candidate.trial_id not in outcomes:
                twin = self._twin(candidate)
                outcomes[candidate.trial_id] = twin
                yield from self._finish(candidate, twin)
        return [outcomes[candidate.trial_id] for candidate in candidates]

    def _working(self, jobs: Sequence[Job]) -> Iterator[Event | JobFinished]:
        """What the executor does; ends the search where it did not do all of it."""
        n_open = len(jobs)
        if self.ledger.ended and any(job.split == "tasks" for job in jobs):
            raise _OverError  # as it was when that was written
        if jobs and not self._is_winner_written:  # a kill came between the ledger and best.yml
            self._write_winner(self._leaders()[0])
        for event in self.executor.run(jobs):
            n_open -= isinstance(event, JobFinished)
            if not isinstance(event, JobGivenUp):
                yield event
        if n_open:
            raise _StoppedError if self._is_stopping else _OverError

    def _keep_batch(self, outcome: Outcome, is_news: bool) -> Iterator[Event]:
        """A batch that was too large once stays smaller: scores must not depend on luck."""
        if outcome.batch_divisor <= self.executor.batch_divisor:
            return
        self.executor.batch_divisor = outcome.batch_divisor
        if is_news:
            yield Notice(
                f"memory ran out: the batch is divided by {outcome.batch_divisor} from now on; "
                "set evaluation.batch_size to choose it yourself"
            )

    def _twin(self, candidate: Candidate) -> Outcome:
        """The outcome of the trial that had the same recipe; it took no time."""
        outcome = self.ledger.whole_outcome(self._trial_of[candidate.recipe.digest])
        return replace(outcome, seconds={})

    def _finish(
        self, candidate: Candidate, outcome: Outcome, *, was_recorded: bool = False
    ) -> Iterator[Event]:
        if not self.proposer.optimizer.needs_tokens:  # they nearly double what is kept
            outcome = outcome.without_tokens()
        if not was_recorded:
            self.ledger.record_trial(Trial(candidate, outcome))
        trial = Trial(candidate, outcome.without_documents())
        self._trial_of.setdefault(candidate.recipe.digest, candidate.trial_id)
        self.standing = self.standing.with_trial(trial)
        is_improved = any(winner is trial for winner in self._leaders())
        if is_improved and not was_recorded:
            self._write_winner(self._leaders()[0])
        self._is_winner_written &= not (is_improved and was_recorded)
        yield from self._keep_batch(outcome, not was_recorded)
        scores = self.standing.scores(trial)
        is_best = is_improved and not self.standing.is_multi
        yield TrialFinished(candidate, outcome, scores, is_best, was_recorded)

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
        self._is_winner_written = True
        if self.standing.is_multi:
            write_front(self.ledger, self.standing)
        write_best(self.ledger, self.standing, trial)

    def _run_finals(self) -> Generator[Event, None, None]:
        """What follows the search, and best.yml with who won in the end."""
        finals = Finals(self.standing, self.ledger, self.finals, self.limits.finalists)
        winners = yield from finals.run(self._working, self._keep_batch)
        if winners:
            self._write_winner(winners[0])

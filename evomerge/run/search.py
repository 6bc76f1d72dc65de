"""The loop: baselines, then ask, hand out, record, tell, until the budget is spent."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from evomerge.executors.base import Executor, Job, JobFinished
from evomerge.foundations.alarm import OverdueError, ended_in_time
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.files import write_missing
from evomerge.merge_spaces.base import MergeSpace
from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.events import (
    Event,
    Listener,
    Notice,
    Proposing,
    RunFinished,
    RunStarted,
    TrialFinished,
)
from evomerge.nouns.objective import Objective
from evomerge.nouns.trial import Candidate, Trial
from evomerge.optimizers.base import Optimizer
from evomerge.run.best import write_best, write_front
from evomerge.run.finals import Finals
from evomerge.run.leaderboard import Leaderboard
from evomerge.run.ledger.history import Ledger
from evomerge.run.limits import Limits
from evomerge.run.proposer import Proposer
from evomerge.run.steering import look_at_tasks
from evomerge.run.stream import Generation, OverError, SearchStoppedError, Stream, Working
from evomerge.run.untried import Untried


class Search:
    """One run: proposes, has it judged, remembers.

    A candidate is handed out whenever a slot is free. An optimizer that can be asked while trials
    are out is asked then; others wait until their generation is back.

    State lives in the ledger: over one that has trials the same steps take their outcomes from it.

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
        trackers: They hear every event.
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
        trackers: Sequence[Listener] = (),
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
        self.leaderboard = Leaderboard(objective)
        self._stream = Stream(lambda: self.executor)
        self._n_proposed = 0
        self._untried = Untried(merge_space, self.baselines)
        self._deadline = Deadline()  # of the search; its time begins with the run
        self._is_winner_written = True

    def run(self) -> Iterator[Event]:
        """Yields what happens until nothing is left to do; then frees executor and folder.

        Raises:
            RunError: the run cannot go on; the same command continues it once that is mended.
        """
        try:
            with closing(self._run()) as events:
                yield from self._heard(events)
        except SearchStoppedError:
            yield from self._heard([RunFinished("stopped", len(self.ledger.trials))])
        finally:
            self.executor.close()
            self.ledger.close()
            for listener in self.trackers:
                listener.close()

    def stop(self) -> None:
        """Ends the run when the trials that are running are finished."""
        self.executor.stop()

    def _heard(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events, each heard by the trackers once the caller has seen it."""
        for event in events:
            yield event
            for hear in self.trackers:
                yield from hear(event)

    def _run(self) -> Generator[Event, None, None]:
        self._stream.start()
        self._deadline = self.limits.deadline(self.ledger, self.executor.n_workers)
        yield RunStarted(
            str(self.ledger.folder.path),
            self.limits.budget,
            self.merge_space.space.n_dims,
            len(self.ledger.trials),
            self.warnings,
            self.notes,
        )
        try:
            yield from self._run_baselines()
            reason = yield from self._propose()
        except OverError:
            reason = self._time_is_over()
        if reason == "timeout" and not self.ledger.ended:  # the others follow from the trials
            self.ledger.record_end(reason)
        self.proposer.leave()
        yield from self._run_finals()
        yield RunFinished(reason, len(self.ledger.trials))

    def _propose(self) -> Generator[Event, None, str]:
        """Candidates as slots become free; why there are no further ones."""
        yield from self._flow(is_asking=True)
        self._stream.refuse_unfinished()
        reason = self._reason_to_stop()
        if reason is not None:
            return reason
        if self.executor.is_stopping:
            raise SearchStoppedError
        if self._stream.is_over:
            raise OverError
        raise self.proposer.another_order(self._next_id)

    def _flow(self, *, is_asking: bool) -> Iterator[Event]:
        """Hands out candidates while slots are free, until none is out and none is to come."""
        stream = self._stream
        while True:
            # First of all: where a kill left nothing open but a twin, no slot ever tells of it.
            for candidate, trial_id in stream.twins(self.ledger.trials):
                twin = self.ledger.whole_outcome(trial_id)
                yield from self._finish(candidate, replace(twin, seconds={}))  # it took no time
            if is_asking:
                self._tell()
            stream.idle.note(0 if self._is_replaying else self.executor.free)
            if is_asking and self._may_ask():
                yield from self._ask()
            elif stream.can_hand_out:
                yield from self._hand_out()
            elif stream.running:
                self.proposer.optimizer.prepare()
                yield from self._heard_of(stream.listen())
            else:
                return

    @property
    def _next_id(self) -> int:
        """The trial that the next candidate will be."""
        return len(self.baselines) + self._n_proposed

    @property
    def _is_replaying(self) -> bool:
        return self.proposer.is_recorded(self._next_id)

    def _may_ask(self) -> bool:
        """Whether the optimizer is to be asked now; what the ledger tells of does without slots."""
        if self.executor.is_stopping or not self.proposer.may_ask(self._next_id):
            return False
        has_room = self._stream.has_room_for(self.proposer.optimizer)
        return (has_room or self._is_replaying) and self._reason_to_stop() is None

    def _ask(self) -> Iterator[Event]:
        """The next candidates; what was recorded before is asked for again however long it takes.

        An epoch of training that is interrupted leaves the model of the trials half way.
        """
        if self.proposer.optimizer.activity:
            yield Proposing(self.proposer.optimizer.activity)
            self.executor.settle()
        deadline, first = Deadline() if self._is_replaying else self._deadline, self._next_id
        try:
            asked = ended_in_time(deadline, lambda: self.proposer.ask(first), "the optimizer")
        except OverdueError:
            self.executor.forget_workers()
            self._stream.is_over = True
            return
        left, is_apart = self.limits.budget - self._n_proposed, self.proposer.optimizer.hears_apart
        generation = self._stream.begin(asked, left, is_apart=is_apart)
        self._n_proposed += len(generation.candidates)
        self._untried.take(generation.candidates)
        yield from self._take(generation)

    def _take(self, generation: Generation) -> Iterator[Event]:
        """What is known of a generation costs nothing; the rest waits for slots."""
        for candidate in generation.candidates:
            write_missing(self.ledger.folder.path, self.merge_space.files(candidate.point))
            recorded = self.ledger.recorded_outcome(candidate)
            known = recorded or self.ledger.known_outcome("tasks", candidate.recipe.digest)
            if known is not None:
                yield from self._finish(candidate, known, was_recorded=recorded is not None)
        for candidate in generation.left:
            self._stream.take(candidate)

    def _hand_out(self) -> Iterator[Event]:
        """Begins the next trial."""
        if self.ledger.ended:
            self._stream.give_up()  # as it was when that was written
            return
        self._mend_winner()
        yield from self._heard_of(self._stream.hand_out(self._deadline.search_end))

    def _heard_of(self, events: Working) -> Iterator[Event]:
        for event in events:
            if isinstance(event, JobFinished):
                yield from self._finish(event.job.candidate, event.outcome)
            else:
                yield event

    def _tell(self) -> None:
        """Tells the optimizer of trials that are over, in the order of the ledger."""
        while due := self._stream.to_tell(self.proposer.due_to_hear):
            self._tell_of(*due)

    def _tell_of(self, generation: Generation, trial_ids: Sequence[int]) -> None:
        """The optimizer hears of trials; of baselines, those that are points of its space."""
        self._stream.note_told(generation, trial_ids)
        known = [one for one in generation.of(trial_ids) if one.genotype is not None]
        outcomes = [generation.outcomes[one.trial_id] for one in known]
        if known:
            self.proposer.tell(known, outcomes, self.leaderboard.objective)

    def _reason_to_stop(self) -> str | None:
        """Why nothing more is asked for; as far as is known while trials are out."""
        limits = self.limits
        if self._n_proposed >= limits.budget:
            return "budget"
        if not self._is_replaying:
            if self.ledger.ended or self._deadline.left <= 0:
                return self.ledger.ended or "timeout"
            if self._untried.is_empty:
                return "exhausted"
        # With trials out it was asked all the same, or it was not: the ledger has it.
        n_over = self._n_proposed - self._stream.n_left
        is_known = limits.patience is not None and not self.proposer.is_replaying_stream
        if is_known and n_over - self._last_improvement() >= (limits.patience or 0):
            return "patience"
        return "converged" if self.proposer.optimizer.is_finished else None

    def _time_is_over(self) -> str:
        """Why a search ends whose last trials are given up.

        Raises:
            RunError: not one baseline was scored.
        """
        if not self.leaderboard.complete:
            raise self.limits.too_short()
        if len(self.leaderboard.trials) < len(self.baselines):
            self.leaderboard = self.leaderboard.with_anchors()
        return "timeout"

    def _run_baselines(self) -> Generator[Event, None, None]:
        generation = self._stream.begin(self.baselines, len(self.baselines))
        yield from self._take(generation)
        yield from self._flow(is_asking=False)
        self._stream.refuse_unfinished()
        yield from look_at_tasks(self.leaderboard, self.ledger, is_strict=self.is_strict)
        self.leaderboard = self.leaderboard.with_anchors()
        self._tell_of(generation, generation.trial_ids)

    def _working(self, jobs: Sequence[Job]) -> Iterator[Event | JobFinished]:
        """What the executor does with jobs of finals."""
        if jobs:
            self._mend_winner()
        yield from self._stream.all_of(jobs)

    def _mend_winner(self) -> None:
        """A kill may have come between the ledger and best.yml."""
        if not self._is_winner_written:
            self._write_winner(self.leaderboard.leaders[0])

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

    def _finish(
        self, candidate: Candidate, outcome: Outcome, *, was_recorded: bool = False
    ) -> Iterator[Event]:
        if not self.proposer.optimizer.needs_tokens:  # they nearly double what is kept
            outcome = outcome.without_tokens()
        if not was_recorded:
            self.ledger.record_trial(Trial(candidate, outcome, *self._stream.times()))
        trial = Trial(candidate, outcome.without_documents())
        self._stream.finish(candidate, outcome)
        self.leaderboard = self.leaderboard.with_trial(trial)
        is_improved = any(winner is trial for winner in self.leaderboard.leaders)
        if is_improved and not was_recorded:
            self._write_winner(self.leaderboard.leaders[0])
        self._is_winner_written &= not (is_improved and was_recorded)
        yield from self._keep_batch(outcome, not was_recorded)
        scores = self.leaderboard.scores(trial)
        is_best = is_improved and not self.leaderboard.is_multi
        yield TrialFinished(candidate, outcome, scores, is_best, was_recorded)

    def _last_improvement(self) -> int:
        """How many trials were proposed when the last winner was; the same in any order."""
        newest = max((trial.candidate.trial_id for trial in self.leaderboard.leaders), default=0)
        return max(newest + 1 - len(self.baselines), 0)

    def _write_winner(self, trial: Trial) -> None:
        self._is_winner_written = True
        if self.leaderboard.is_multi:
            write_front(self.ledger, self.leaderboard)
        write_best(self.ledger, self.leaderboard, trial)

    def _run_finals(self) -> Generator[Event, None, None]:
        """What follows the search, and best.yml with who won in the end."""
        finals = Finals(self.leaderboard, self.ledger, self.finals, self.limits.finalists)
        winners = yield from finals.run(self._working, self._keep_batch)
        if winners:
            self._write_winner(winners[0])

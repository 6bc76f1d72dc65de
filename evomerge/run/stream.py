"""Candidates that are not over: queued, running, or waiting for others of their ask."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from evomerge.executors.base import Executor, ExecutorEvent, Job, JobFinished, JobGivenUp
from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.events import Notice, StageStarted, TrialStarted
from evomerge.nouns.trial import Candidate

Working = Iterator[TrialStarted | StageStarted | Notice | JobFinished]


class SearchStoppedError(Exception):
    """The user asked the run to stop, and the running trials are finished."""


class OverError(Exception):
    """The time of the search is over, and what ran is given up."""


@dataclass
class Generation:
    """Candidates that were asked for together, and are told together.

    Attributes:
        candidates: In the order in which they are told.
        is_whole: Whether all that were asked for are among them; else they are never told.
        outcomes: Trial id -> what came of it.
    """

    candidates: tuple[Candidate, ...]
    is_whole: bool = True
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    @property
    def trial_ids(self) -> tuple[int, ...]:
        """Of its candidates."""
        return tuple(candidate.trial_id for candidate in self.candidates)

    @property
    def left(self) -> list[Candidate]:
        """Those without an outcome."""
        return [one for one in self.candidates if one.trial_id not in self.outcomes]


class Stream:
    """The generations that are not over yet, and the slots that their candidates go to.

    Args:
        who: Where trials run.

    Attributes:
        waiting: Candidates that wait for a slot.
        running: Trials that have one.
        generations: In the order in which they were asked for, until they are told.
        is_over: Whether something was given up, as the time of the search is over.
        idle: How long slots stood empty.
    """

    def __init__(self, who: Callable[[], Executor]) -> None:
        self._who = who
        self.waiting: deque[Candidate] = deque()
        self.running: set[int] = set()
        self.generations: list[Generation] = []
        self.is_over = False
        self.idle = IdleTime()
        self._first: dict[str, int] = {}  # recipe digest -> trial: none is evaluated twice

    @property
    def _executor(self) -> Executor:
        return self._who()

    @property
    def has_room(self) -> bool:
        """Whether one more candidate would run at once."""
        return not self.waiting and self._executor.free > 0 and not self.is_over

    @property
    def can_hand_out(self) -> bool:
        """Whether somebody waits for a slot, and there is one."""
        is_wanted = self.waiting and not self._executor.is_stopping
        return bool(is_wanted) and self._executor.free > 0

    def hand_out(self, search_end: float | None) -> Working:
        """Begins the next trial, unless the time of the search is over."""
        job = Job(self.waiting.popleft(), search_end=search_end)
        yield from self._counted([self._executor.submit(job)])

    def give_up(self) -> None:
        """Begins no trial that waits."""
        self.waiting.clear()
        self.is_over = True

    def listen(self) -> Working:
        """What the executor does until a trial is over."""
        yield from self._counted(self._executor.next())

    def all_of(self, jobs: Sequence[Job]) -> Working:
        """Has jobs done that no optimizer asked for.

        Raises:
            SearchStoppedError, OverError: not all of them were done.
        """
        n_left = len(jobs)
        for event in self._counted(self._executor.run(jobs)):
            n_left -= isinstance(event, JobFinished)
            yield event
        self._refuse(n_left)

    def refuse_unfinished(self) -> None:
        """Does nothing where every candidate has an outcome.

        Raises:
            SearchStoppedError, OverError: why there are others.
        """
        self._refuse(self.n_left)

    def _refuse(self, n_left: int) -> None:
        if n_left:
            raise SearchStoppedError if self._executor.is_stopping else OverError

    def _counted(self, events: Iterable[ExecutorEvent]) -> Working:
        for event in events:
            if isinstance(event, TrialStarted):
                self.running.add(event.candidate.trial_id)
            elif isinstance(event, JobFinished | JobGivenUp):
                self.running.discard(event.job.candidate.trial_id)
            if isinstance(event, JobGivenUp):
                self.is_over = True
            else:
                yield event

    @property
    def n_left(self) -> int:
        """Candidates without an outcome."""
        return sum(len(generation.left) for generation in self.generations)

    @property
    def untold(self) -> Iterator[Generation]:
        """Whole generations that are over."""
        return (one for one in self.generations if one.is_whole and not one.left)

    def begin(self, candidates: Sequence[Candidate], budget: int) -> Generation:
        """A generation of so many candidates at most."""
        kept = tuple(candidates[:budget])
        self.generations.append(Generation(kept, is_whole=len(kept) == len(candidates)))
        return self.generations[-1]

    def take(self, candidate: Candidate) -> None:
        """Has a candidate wait for a slot, or for the one with the same recipe before it."""
        if self._is_first(candidate):
            self.waiting.append(candidate)

    def finish(self, candidate: Candidate, outcome: Outcome) -> None:
        """Notes what came of a candidate."""
        self._is_first(candidate)
        for generation in self.generations:
            if candidate.trial_id in generation.trial_ids:
                generation.outcomes[candidate.trial_id] = outcome

    def _is_first(self, candidate: Candidate) -> bool:
        first = self._first.setdefault(candidate.recipe.digest, candidate.trial_id)
        return first == candidate.trial_id

    def twins(self, finished: Container[int]) -> list[tuple[Candidate, int]]:
        """Candidates that wait for nothing but a twin that is finished, and the twin's trial.

        Those of a generation come together, when nothing else of it is open.
        """
        found = []
        for generation in self.generations:
            pairs = [(one, self._first[one.recipe.digest]) for one in generation.left]
            if all(twin != one.trial_id and twin in finished for one, twin in pairs):
                found += pairs
        return found


class IdleTime:
    """How long slots stand without a job.

    Args:
        clock: Seconds from any start, rising.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since, self._n_free, self._seconds = clock(), 0, 0.0

    def note(self, n_free: int) -> None:
        """So many slots have no job from now on."""
        now = self._clock()
        self._seconds += self._n_free * (now - self._since)
        self._since, self._n_free = now, n_free

    def taken(self) -> float:
        """Seconds of all slots together since this was asked last."""
        self.note(self._n_free)
        seconds, self._seconds = self._seconds, 0.0
        return seconds

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
from evomerge.optimizers.base import Optimizer

Working = Iterator[TrialStarted | StageStarted | Notice | JobFinished]


class SearchStoppedError(Exception):
    """The user asked the run to stop, and the running trials are finished."""


class OverError(Exception):
    """The time of the search is over, and what ran is given up."""


@dataclass
class Generation:
    """Candidates that were asked for together.

    Attributes:
        candidates: In the order in which they are told, where they are told together.
        is_whole: Whether all that were asked for are among them; else they are never told.
        is_apart: Whether each may be told as soon as it is over.
        outcomes: Trial id -> what came of it, in the order in which they came.
        told: Ids of the trials that the optimizer heard of.
    """

    candidates: tuple[Candidate, ...]
    is_whole: bool = True
    is_apart: bool = False
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)

    @property
    def trial_ids(self) -> tuple[int, ...]:
        """Of its candidates."""
        return tuple(candidate.trial_id for candidate in self.candidates)

    @property
    def left(self) -> list[Candidate]:
        """Those without an outcome."""
        return [one for one in self.candidates if one.trial_id not in self.outcomes]

    @property
    def untold(self) -> tuple[int, ...]:
        """Ids of the trials that nobody heard of."""
        return tuple(trial_id for trial_id in self.trial_ids if trial_id not in self.told)

    def of(self, trial_ids: Sequence[int]) -> list[Candidate]:
        """Some of its candidates."""
        return [self.candidates[self.trial_ids.index(trial_id)] for trial_id in trial_ids]

    def can_tell(self, trial_ids: Sequence[int]) -> bool:
        """Whether these are over, nobody heard of them, and they may be told without the others."""
        is_all = tuple(trial_ids) == self.trial_ids or self.is_apart
        are_over = set(trial_ids) <= self.outcomes.keys() - self.told
        return self.is_whole and bool(trial_ids) and is_all and are_over


class Stream:
    """The generations that are not over yet, and the slots that their candidates go to.

    Args:
        who: Where trials run.

    Attributes:
        waiting: Candidates that wait for a slot.
        running: Trials that have one.
        generations: In the order in which they were asked for, until all of them is told.
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
        self._n_slots = 1
        self._first: dict[str, int] = {}  # recipe digest -> trial: none is evaluated twice

    @property
    def _executor(self) -> Executor:
        return self._who()

    def start(self) -> None:
        """The run begins; a slot that is lent from then on is one of its slots all the same."""
        self._n_slots = self._executor.n_workers
        self.idle.lasted()

    def times(self) -> tuple[float, float] | tuple[()]:
        """``idle`` and ``elapsed`` of a trial that is recorded now; of several slots."""
        idle, elapsed = self.idle.taken(), self.idle.lasted()
        return (idle, elapsed) if self._n_slots > 1 else ()

    def has_room_for(self, optimizer: Optimizer) -> bool:
        """Whether one more candidate would run at once, if it is another than those that are out.

        Whoever can only repeat what is out would spend its budget while one trial runs. Who trains
        in a slot that is lent needs no other one, who asks ahead none of several yet: what comes of
        it waits.

        Args:
            optimizer: Who would be asked.
        """
        n_twins, n_now = self.n_left - len(self.running), self._executor.n_workers
        is_trained = bool(optimizer.activity) and n_now < self._n_slots
        is_ahead = optimizer.asks_ahead and not optimizer.activity and n_now > 1
        has_room = self._executor.free > 0 or is_ahead or is_trained
        return not self.waiting and not self.is_over and n_twins < n_now and has_room

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
                self.idle.note(self._executor.free)
            if isinstance(event, JobGivenUp):
                self.is_over = True
            else:
                yield event

    @property
    def n_left(self) -> int:
        """Candidates without an outcome."""
        return sum(len(generation.left) for generation in self.generations)

    def to_tell(self, due: tuple[int, ...] | None) -> tuple[Generation, tuple[int, ...]] | None:
        """What the optimizer is to hear now: trials of a generation.

        One worker's are told when all are over, those of several as they come, where they may.

        Args:
            due: These and no others; None: any that are over.
        """
        for generation in self.generations:
            for trial_ids in [due] if due is not None else self._told_together(generation):
                if generation.can_tell(trial_ids):
                    return generation, trial_ids
        return None

    def _told_together(self, generation: Generation) -> Iterable[tuple[int, ...]]:
        """Trials of a generation that are over and untold, as they are to be told."""
        if generation.is_apart and self._executor.n_workers > 1:
            return ((one,) for one in generation.outcomes if one not in generation.told)
        return [] if generation.left else [generation.untold]

    def begin(
        self, candidates: Sequence[Candidate], budget: int, *, is_apart: bool = False
    ) -> Generation:
        """A generation of so many candidates at most."""
        kept = tuple(candidates[:budget])
        is_whole = len(kept) == len(candidates)
        self.idle.note_at_most(self._executor.free)  # who asked may have been lent one meanwhile
        generation = Generation(kept, is_whole, is_apart)
        self.generations += [generation] if kept else []
        return generation

    def note_told(self, generation: Generation, trial_ids: Iterable[int]) -> None:
        """The optimizer heard of some; a generation of which it heard all is over."""
        generation.told.update(trial_ids)
        if not generation.untold:
            self.generations.remove(generation)

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
        self._began = self._since

    def note(self, n_free: int) -> None:
        """So many slots have no job from now on."""
        now = self._clock()
        self._seconds += self._n_free * (now - self._since)
        self._since, self._n_free = now, n_free

    def note_at_most(self, n_free: int) -> None:
        """No more than so many were without a job since the last note."""
        self._n_free = min(self._n_free, n_free)

    def lasted(self) -> float:
        """Seconds since this was asked last, or since the beginning."""
        began, self._began = self._began, self._clock()
        return self._began - began

    def taken(self) -> float:
        """Seconds of all slots together since this was asked last."""
        self.note(self._n_free)
        seconds, self._seconds = self._seconds, 0.0
        return seconds

"""Where a run stands, counted from its events; what both displays draw."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from evomerge.foundations.counted import counted, failures
from evomerge.nouns.evaluation import TrialState
from evomerge.nouns.events import (
    Event,
    FinalScored,
    Preparing,
    Proposing,
    RunFinished,
    RunStarted,
    StageStarted,
    TrialFinished,
    TrialStarted,
)
from evomerge.nouns.objective import Score
from evomerge.nouns.origin import Origin
from evomerge.nouns.trial import Candidate

_ENDINGS = {
    "budget": "the budget is spent",
    "patience": "no better trial for long enough",
    "timeout": "timeout reached",
    "exhausted": "everything that the space holds has been tried",
    "converged": "the optimizer has nothing more to try",
    "stopped": "stopped on request",
}


@dataclass
class Progress:
    """The state of a run.

    Attributes:
        labels: What each score of a trial is of.
        clock: Seconds from any start, rising.
        started: What the run said when it began.
        n_done: The optimizer's finished trials.
        n_failed: The optimizer's failed trials.
        n_failed_baselines: The other ones.
        best: The best trial so far; stays None where there are several objectives.
        best_scores: Its scores, or the highest of each of several objectives.
        front: Scores of the trials that no other beats, where there are several objectives.
        baselines: Origin -> scores, empty where it failed.
        history: Score of the best trial after each of the optimizer's trials.
        stage: What is being done right now; empty when nothing is.
        is_proposing: Whether that is the optimizer's work, not a trial's.
        finished: What the run said at its end.
    """

    labels: tuple[str, ...]
    clock: Callable[[], float] = time.monotonic
    started: RunStarted | None = None
    n_done: int = 0
    n_failed: int = 0
    n_failed_baselines: int = 0
    best: Candidate | None = None
    best_scores: tuple[Score, ...] = ()
    front: list[tuple[float, ...]] = field(default_factory=list)
    baselines: dict[Origin, tuple[Score, ...]] = field(default_factory=dict)
    history: list[float] = field(default_factory=list)
    stage: str = "loading models and tasks"
    is_proposing: bool = False
    finished: RunFinished | None = None
    _working: dict[int, Candidate] = field(default_factory=dict)
    _judged: set[int] = field(default_factory=set)
    _first_start: float | None = None
    _last_finish: float = 0.0
    _n_timed: int = 0

    @property
    def budget(self) -> int:
        """Trials the optimizer may propose."""
        return self.started.budget if self.started else 0

    @property
    def seconds_left(self) -> float | None:
        """Until the budget is spent, at the pace so far; None without a pace, and after."""
        if self._first_start is None or not self._n_timed or self.n_done >= self.budget:
            return None
        pace = (self._last_finish - self._first_start) / self._n_timed
        since = self.clock() - self._last_finish
        return max(pace * (self.budget - self.n_done) - since, 0.0)

    @property
    def ending(self) -> str:
        """How the run ended, in one line."""
        assert self.finished is not None  # the run is over
        reason = _ENDINGS[self.finished.reason]
        told = f"{self.n_done} of {counted(self.budget, 'trial')}"
        return f"{', '.join(filter(None, (told, self.failures)))}: {reason}"

    @property
    def n_all_failed(self) -> int:
        """Failed trials, baselines included."""
        return self.n_failed + self.n_failed_baselines

    @property
    def failures(self) -> str:
        """How many trials and baselines failed; empty where none did."""
        return failures(self.n_failed, self.n_failed_baselines)

    @property
    def is_stopped(self) -> bool:
        """Whether the user ended the run before its end."""
        return self.finished is not None and self.finished.reason == "stopped"

    def see(self, event: Event) -> None:
        """Takes an event in."""
        self.is_proposing = isinstance(event, Proposing)
        if isinstance(event, RunStarted):
            self.started = event
        elif isinstance(event, TrialStarted):
            self._start(event.candidate)
        elif isinstance(event, Preparing | Proposing):
            self.stage = event.activity
        elif isinstance(event, StageStarted):
            self.stage = f"{self._name(event.trial_id)}: {event.stage}"
        elif isinstance(event, TrialFinished):
            self._finish(event)
        elif isinstance(event, FinalScored):
            self.stage = f"{event.split}: trial {event.candidate.trial_id}"
        elif isinstance(event, RunFinished):
            self.finished = event

    def _start(self, candidate: Candidate) -> None:
        self._working[candidate.trial_id] = candidate
        if not candidate.is_baseline and self._first_start is None:
            self._first_start = self.clock()

    def _name(self, trial_id: int) -> str:
        candidate = self._working.get(trial_id)
        name = f"trial {trial_id}"
        if candidate is not None and candidate.is_baseline:
            name += f" ({candidate.origin})"
        return f"final scores, {name}" if trial_id in self._judged else name

    def _finish(self, event: TrialFinished) -> None:
        candidate = event.candidate
        self._judged.add(candidate.trial_id)
        has_failed = event.outcome.state is TrialState.FAILED
        self.n_failed += has_failed and not candidate.is_baseline
        self.n_failed_baselines += has_failed and candidate.is_baseline
        if event.is_best:
            self.best, self.best_scores = candidate, event.scores
        if len(event.scores) > 1 and candidate.origin.may_win:
            self._join_front(event.scores)
        if candidate.is_baseline:
            self.baselines[candidate.origin] = event.scores
            return
        self.n_done += 1
        if self.best is not None:
            self.history.append(self.best_scores[0].value)
        if not event.was_recorded and self._first_start is not None:
            self._n_timed += 1
            self._last_finish = self.clock()

    def _join_front(self, scores: tuple[Score, ...]) -> None:
        new = tuple(score.value for score in scores)
        if not any(_is_beaten(new, other) or new == other for other in self.front):
            self.front = [other for other in self.front if not _is_beaten(other, new)] + [new]
        pairs = zip(self.best_scores or scores, scores, strict=True)
        self.best_scores = tuple(max(pair, key=lambda score: score.value) for pair in pairs)


def duration(seconds: float) -> str:
    """``2 h 05 min``, ``3 min 20 s``, ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _is_beaten(scores: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return scores != other and all(a <= b for a, b in zip(scores, other, strict=True))

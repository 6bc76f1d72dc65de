"""How the trials of a run stand: scores, the best so far, the Pareto front."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evomerge.nouns.evaluation import Outcome, TrialState
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.origin import OriginKind
from evomerge.nouns.trial import Trial


@dataclass(frozen=True)
class Leaderboard:
    """Trials and the rule that orders them; a new one is made as trials come in.

    Attributes:
        objective: Metrics -> scores.
        trials: All finished trials, in order of their ids.
    """

    objective: Objective
    trials: tuple[Trial, ...] = ()

    def with_trial(self, trial: Trial) -> Leaderboard:
        """The leaderboard with one more trial; what this one knows is not worked out again."""
        at = bisect(self.trials, _trial_id(trial), key=_trial_id)
        new = Leaderboard(self.objective, (*self.trials[:at], trial, *self.trials[at:]))
        leaders = self._leaders_with(trial)
        vars(new).update(_losses=self._losses, _first=self._first)  # where cached properties live
        if leaders is not None:
            vars(new)["leaders"] = leaders
        return new

    def with_anchors(self) -> Leaderboard:
        """The leaderboard once the baselines are in, for objectives scaled by them."""
        outcomes = {trial.candidate.trial_id: trial.outcome for trial in self.trials}
        return Leaderboard(anchored(self.objective, self.trials, outcomes), self.trials)

    def is_learned(self, trial: Trial) -> bool:
        """Whether the search documents taught it, or a trial that it may have begun at."""
        taught = self._first_taught
        is_later = taught is not None and _trial_id(trial) >= taught
        return is_later and (not trial.candidate.is_baseline or trial.candidate.origin.is_taught)

    @cached_property
    def _first_taught(self) -> int | None:
        """The first trial that learned from the search documents; later ones may begin there."""
        taught = (_trial_id(trial) for trial in self.trials if trial.candidate.origin.is_taught)
        return min(taught, default=None)

    @cached_property
    def _losses(self) -> dict[int, tuple[Trial, NDArray[np.float64]]]:
        """Trial id -> the trial and its losses; shared with those made from this one."""
        return {}

    @cached_property
    def _first(self) -> dict[str, Trial]:
        """Recipe digest -> a complete trial, the first for all this one knows; shared likewise."""
        return {trial.candidate.recipe.digest: trial for trial in self._different()}

    def losses(self, trial: Trial) -> NDArray[np.float64]:
        """Shape (n_objectives,); ``inf`` where the trial failed."""
        known = self._losses.get(_trial_id(trial))
        if known is None or known[0] is not trial:
            known = self._losses[_trial_id(trial)] = trial, self.objective.losses(trial.outcome)
        return known[1]

    def scores(self, trial: Trial) -> tuple[Score, ...]:
        """The score of each objective, empty where the trial failed."""
        evaluation = trial.outcome.evaluation
        return () if evaluation is None else self.objective.scores(evaluation)

    @property
    def complete(self) -> tuple[Trial, ...]:
        """Trials with scores."""
        return tuple(t for t in self.trials if t.outcome.state is TrialState.COMPLETE)

    def ranked(self) -> list[Trial]:
        """Complete trials with different recipes, best first, the earlier first among equals.

        For several objectives by the sum of their scores, the front first.
        """
        front = {t.candidate.trial_id for t in self.front()} if self.is_multi else set()

        def key(trial: Trial) -> tuple[bool, float]:
            return trial.candidate.trial_id not in front, float(self.losses(trial).sum())

        return sorted(self._different(), key=key)

    def _different(self) -> list[Trial]:
        """Complete trials that may win, the first of each recipe."""
        first: dict[str, Trial] = {}
        for trial in filter(_may_win, self.complete):
            first.setdefault(trial.candidate.recipe.digest, trial)
        return list(first.values())

    @property
    def is_multi(self) -> bool:
        """Whether there are several objectives, and so a front instead of one winner."""
        return self.objective.n_objectives > 1

    @property
    def best(self) -> Trial | None:
        """The best complete trial, None while there is none."""
        return min(self.leaders, key=self._loss, default=None)

    def front(self) -> list[Trial]:
        """Trials with different recipes that no other beats in every objective (Pareto front)."""
        return list(self.leaders) if self.is_multi else self._unbeaten(self._different())

    @cached_property
    def leaders(self) -> tuple[Trial, ...]:
        """The front where there are several objectives, else the best trial."""
        if self.is_multi:
            return tuple(self._unbeaten(self._different()))
        return tuple(sorted(filter(_may_win, self.complete), key=self._loss))[:1]

    def _leaders_with(self, trial: Trial) -> tuple[Trial, ...] | None:
        """The leaders once there is one more trial; None where all have to be compared anew."""
        if trial.outcome.state is not TrialState.COMPLETE or not _may_win(trial):
            return self.leaders
        if not self.is_multi:
            return (min(sorted((*self.leaders, trial), key=_trial_id), key=self._loss),)
        twin = self._first.setdefault(trial.candidate.recipe.digest, trial)
        if twin is trial:
            return self._joined(trial)
        is_first = _trial_id(twin) < _trial_id(trial) and self._has(twin)
        return self.leaders if is_first else None

    def _joined(self, trial: Trial) -> tuple[Trial, ...]:
        """The front with one more trial: what is beaten at all is beaten by one of the front."""
        front, new = self.leaders, self.losses(trial)
        if not front:
            return (trial,)
        losses = np.array([self.losses(leader) for leader in front])
        if _is_dominated(new, losses):
            return front
        beaten = _beaten(losses, new)
        kept = (leader for leader, is_beaten in zip(front, beaten, strict=True) if not is_beaten)
        return tuple(sorted((*kept, trial), key=_trial_id))

    def _has(self, trial: Trial) -> bool:
        at = bisect(self.trials, _trial_id(trial), key=_trial_id)
        return at > 0 and self.trials[at - 1] is trial

    def _loss(self, trial: Trial) -> float:
        return float(self.losses(trial).sum())

    def _unbeaten(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those that no other of them beats in every objective."""
        losses = np.array([self.losses(trial) for trial in trials])
        pairs = zip(trials, losses, strict=True)
        return [trial for trial, loss in pairs if not _is_dominated(loss, losses)]


def anchored(
    objective: Objective, trials: Iterable[Trial], outcomes: Mapping[int, Outcome]
) -> Objective:
    """The objective of a split, scaled by the baselines that were scored on it.

    Args:
        objective: Of the split.
        trials: The run's.
        outcomes: Trial id -> outcome on the split.
    """
    found = {}
    for trial in trials:
        outcome = outcomes.get(trial.candidate.trial_id)
        if trial.candidate.is_baseline and outcome is not None and outcome.evaluation is not None:
            found[trial.candidate.origin] = outcome.evaluation
    bases = [e for origin, e in found.items() if origin.kind is OriginKind.BASE]
    parents = [e for origin, e in found.items() if origin.kind is OriginKind.MODEL]
    return objective.with_anchors(next(iter(bases), None), parents)


def _may_win(trial: Trial) -> bool:
    return trial.candidate.origin.may_win


def _trial_id(trial: Trial) -> int:
    return trial.candidate.trial_id


def _is_dominated(loss: np.ndarray, losses: np.ndarray) -> bool:
    no_worse = (losses <= loss).all(axis=1)
    better = (losses < loss).any(axis=1)
    return bool((no_worse & better).any())


def _beaten(losses: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Which rows are no better than a loss in any objective, and worse in one."""
    beaten: np.ndarray = np.all(losses >= loss, axis=1) & np.any(losses > loss, axis=1)
    return beaten

"""How the trials of a run stand: scores, the best so far, the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evomerge.genome.schema import N_FINALISTS
from evomerge.objective import Objective, Score
from evomerge.trial import Outcome, Trial, TrialState


@dataclass(frozen=True)
class Standing:
    """Trials and the rule that orders them; a new one is made as trials come in.

    Attributes:
        objective: Metrics -> scores.
        trials: All finished trials, in order of their ids.
    """

    objective: Objective
    trials: tuple[Trial, ...] = ()

    def with_trial(self, trial: Trial) -> Standing:
        """The standing with one more trial."""
        trials = sorted((*self.trials, trial), key=lambda t: t.candidate.trial_id)
        standing = Standing(self.objective, tuple(trials))
        standing._losses.update(self._losses)
        return standing

    def with_anchors(self) -> Standing:
        """The standing once the baselines are in, for objectives scaled by them."""
        outcomes = {trial.candidate.trial_id: trial.outcome for trial in self.trials}
        return Standing(anchored(self.objective, self.trials, outcomes), self.trials)

    @cached_property
    def _losses(self) -> dict[int, NDArray[np.float64]]:
        """Trial id -> losses, computed once per trial and handed on to the next standing."""
        return {}

    def losses(self, trial: Trial) -> NDArray[np.float64]:
        """Shape (n_objectives,); ``inf`` where the trial failed."""
        trial_id = trial.candidate.trial_id
        if trial_id not in self._losses:
            self._losses[trial_id] = self.objective.losses(trial.outcome)
        return self._losses[trial_id]

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
        """Complete trials, the first of each recipe."""
        first: dict[str, Trial] = {}
        for trial in self.complete:
            first.setdefault(trial.candidate.recipe.digest, trial)
        return list(first.values())

    @property
    def is_multi(self) -> bool:
        """Whether there are several objectives, and so a front instead of one winner."""
        return self.objective.n_objectives > 1

    @property
    def best(self) -> Trial | None:
        """The best complete trial, None while there is none."""
        if self.is_multi:
            return next(iter(self.ranked()), None)
        return min(self.complete, key=lambda t: float(self.losses(t)[0]), default=None)

    def front(self) -> list[Trial]:
        """Trials with different recipes that no other beats in every objective (Pareto front)."""
        trials = self._different()
        if not trials:
            return []
        losses = np.stack([self.losses(trial) for trial in trials])
        return [
            trial
            for trial, loss in zip(trials, losses, strict=True)
            if not _is_dominated(loss, losses)
        ]


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
    base = next((e for origin, e in found.items() if origin.startswith("base ")), None)
    parents = [e for origin, e in found.items() if origin.startswith("model ")]
    return objective.with_anchors(base, parents)


def finalists(standing: Standing, count: int = N_FINALISTS) -> list[Trial]:
    """The trials that are looked at again after the search: the best few, or the whole front."""
    ranked = standing.ranked()
    if not standing.is_multi:
        return ranked[:count]
    front = {trial.candidate.trial_id for trial in standing.front()}
    return [trial for trial in ranked if trial.candidate.trial_id in front]


def winners(
    standing: Standing,
    objective: Objective | None,
    validated: Mapping[int, Outcome],
    count: int = N_FINALISTS,
) -> list[Trial]:
    """The front where there are several objectives, else the best trial; best first.

    Args:
        standing: The trials on the search tasks.
        objective: Of the validation tasks, which order the finalists; None without any.
        validated: Trial id -> outcome on the validation tasks.
        count: How many finalists there are.
    """
    found = finalists(standing, count)
    if objective is not None:
        scaled = anchored(objective, standing.trials, validated)

        def loss(trial: Trial) -> float:
            outcome = validated.get(trial.candidate.trial_id)
            return math.inf if outcome is None else float(scaled.losses(outcome).sum())

        found = sorted(found, key=loss)
    return found if standing.is_multi else found[:1]


def _is_dominated(loss: np.ndarray, losses: np.ndarray) -> bool:
    no_worse = (losses <= loss).all(axis=1)
    better = (losses < loss).any(axis=1)
    return bool((no_worse & better).any())

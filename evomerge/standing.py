"""How the trials of a run stand: scores, the best so far, the Pareto front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evomerge.objective import Objective, Score
from evomerge.trial import Trial, TrialState


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
        return Standing(self.objective, tuple(trials))

    def with_anchors(self) -> Standing:
        """The standing once the baselines are in, for objectives scaled by them."""
        evaluations = {
            t.candidate.origin: t.outcome.evaluation
            for t in self.trials
            if t.candidate.is_baseline and t.outcome.evaluation is not None
        }
        base = next((e for origin, e in evaluations.items() if origin.startswith("base ")), None)
        parents = [e for origin, e in evaluations.items() if origin.startswith("model ")]
        return Standing(self.objective.with_anchors(base, parents), self.trials)

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
            total = sum(-float(loss) for loss in self.objective.losses(trial.outcome))
            return trial.candidate.trial_id not in front, -total

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
        ranked = self.ranked()
        return ranked[0] if ranked else None

    def front(self) -> list[Trial]:
        """Trials with different recipes that no other beats in every objective (Pareto front)."""
        trials = self._different()
        if not trials:
            return []
        losses = np.stack([self.objective.losses(t.outcome) for t in trials])
        return [
            trial
            for trial, loss in zip(trials, losses, strict=True)
            if not _is_dominated(loss, losses)
        ]


def _is_dominated(loss: np.ndarray, losses: np.ndarray) -> bool:
    no_worse = (losses <= loss).all(axis=1)
    better = (losses < loss).any(axis=1)
    return bool((no_worse & better).any())

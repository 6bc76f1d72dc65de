"""The winner against the best of what was there before the search, objective by objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.trial import Trial
from evomerge.report.gains import Gains
from evomerge.report.split_table import WINNER, Contest
from evomerge.report.trial_names import short_origins
from evomerge.run.recorded_run import RecordedRun


def contests(
    run: RecordedRun,
    split: str,
    rules: Sequence[Objective],
    scores: Mapping[int, Sequence[Score | None]],
    objectives: Sequence[int | None],
) -> tuple[Contest | None, ...]:
    """One per column; None where the column is no objective, or no winner has a score.

    Which baseline is the best, and which point of a front, is chosen as the winner was, once
    validation is there; on the search tasks themselves by their score. So holdout has no say in it.

    Args:
        run: The run.
        split: Where they are compared.
        rules: Objectives whose scores, side by side, are the columns.
        scores: Trial id -> a score per column.
        objectives: Which objective each column is; None for none.
    """
    n_objectives = sum(objective is not None for objective in objectives)
    best: list[tuple[Trial, Trial | None] | None] = []
    for column, objective in enumerate(objectives):
        scored = [t for t in run.leaderboard.trials if scores[_id(t)][column] is not None]
        winners = [t for t in run.winners if scores[_id(t)][column] is not None]
        if objective is None or not winners:
            best.append(None)
            continue
        rank = _rank(run, split, objective, n_objectives)
        baselines = [t for t in scored if t.candidate.is_baseline and t.candidate.origin.may_win]
        best.append((min(winners, key=rank), min(baselines, key=rank, default=None)))
    rivals = [None if pair is None or pair[1] is None else _id(pair[1]) for pair in best]
    gains, names = Gains(run, split, rules, rivals), short_origins(run.leaderboard.trials)

    def contest(column: int, pair: tuple[Trial, Trial | None] | None) -> Contest | None:
        if pair is None:
            return None
        winner, rival = pair
        if winner.candidate.is_baseline:
            rival = winner
        name = f"trial {_id(winner)}" if run.leaderboard.is_multi else WINNER
        is_compared = rival is not None and rival is not winner
        gain = gains.of(_id(winner))[column] if is_compared else None
        return Contest(name, None if rival is None else names[_id(rival)], gain)

    return tuple(contest(column, pair) for column, pair in enumerate(best))


def _rank(
    run: RecordedRun, split: str, objective: int, n_objectives: int
) -> Callable[[Trial], tuple[float, ...]]:
    """What orders trials by an objective, the best first, as the winner is chosen."""
    choice = run.choice
    validation = None if split == "tasks" else choice.validation

    def loss(rule: Objective, outcome: Outcome) -> float:
        losses = rule.losses(outcome)
        return float(losses[objective] if len(losses) == n_objectives else losses.sum())

    def rank(trial: Trial) -> tuple[float, ...]:
        searched = loss(run.leaderboard.objective, trial.outcome)
        if validation is None:
            return (searched,)
        if n_objectives == 1:
            return choice.loss(trial), searched
        outcome = choice.validated.get(_id(trial))
        return (math.inf if outcome is None else loss(validation, outcome), searched)

    return rank


def _id(trial: Trial) -> int:
    return trial.candidate.trial_id

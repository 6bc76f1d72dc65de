"""The winner against the best of what was there before the search, objective by objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from evomerge.nouns.comparison import Comparison
from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.trial import Candidate, Trial
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
        best.append((min(winners, key=rank), min(_before(run, scored), key=rank, default=None)))
    rivals = [None if pair is None or pair[1] is None else _id(pair[1]) for pair in best]
    gains, names = Gains(run, split, rules, rivals), short_origins(run.leaderboard.trials)
    beside = Gains(run, split, rules, [None if pair is None else _id(pair[0]) for pair in best])

    def contest(column: int, pair: tuple[Trial, Trial | None] | None) -> Contest | None:
        if pair is None:
            return None
        winner, rival = pair
        if _before(run, [winner]):
            rival = winner
        name = f"trial {_id(winner)}" if run.leaderboard.is_multi else WINNER
        is_compared = rival is not None and rival is not winner
        gain = gains.of(_id(winner))[column] if is_compared else None
        if rival is None:
            return Contest(name, None, gain)
        others = [t for t in _before(run, run.leaderboard.trials) if t is not rival]
        if rival is winner:
            won = scores[_id(winner)][column]
            same = [names[_id(t)] for t in others if scores[_id(t)][column] == won]
            return Contest(name, names[_id(rival)], gain, tuple(same))
        found = [(names[_id(t)], beside.of(_id(t))[column]) for t in others]
        is_sure = gain is not None and gain.is_distinguishable
        untold = [of for of, one in found if is_sure and one and not _is_told(one)]
        better = [of for of, one in found if one and one.is_distinguishable and one.difference > 0]
        return Contest(name, names[_id(rival)], gain, tuple(untold), tuple(better))

    return tuple(contest(column, pair) for column, pair in enumerate(best))


def _before(run: RecordedRun, trials: Sequence[Trial]) -> list[Trial]:
    """Those that were there before anything was searched, by an earlier stage neither."""
    definition = run.genome.genome
    models = [source.model for source in definition.models]
    if definition.base_model is not None:
        models.append(definition.base_model)
    found = {model.text for model in models if model.is_stage}

    def was_there(candidate: Candidate) -> bool:
        origin = candidate.origin
        if not origin.is_baseline or not origin.may_win:
            return False
        if not found or candidate.is_seed:
            return True
        return origin.is_unmerged and origin.name not in found  # averages merge what was found

    return [trial for trial in trials if was_there(trial.candidate)]


def _is_told(gain: Comparison) -> bool:
    """Whether documents tell two models apart; of those without errors nobody knows."""
    return gain.stderr is None or gain.is_distinguishable


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

"""The final table as data: the winner beside what was there before, on every split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.objective import Objective, Score
from evomerge.nouns.trial import Trial
from evomerge.report.combined import combined, combined_name
from evomerge.report.contests import contests
from evomerge.report.gains import Gains, best_parents
from evomerge.report.split_table import Column, Row, SplitTable
from evomerge.report.trial_names import short_origins
from evomerge.run.recorded_run import RecordedRun

SPLIT_TITLES: Mapping[str, str] = {
    "tasks": "search",
    "validation": "validation",
    "holdout": "holdout",
}


def final_tables(run: RecordedRun) -> list[SplitTable]:
    """One table per split that has results."""
    if not run.winners:
        return []
    objectives = {"tasks": run.leaderboard.objective, **run.finals}
    return [_table(run, split, rule, run.outcomes(split)) for split, rule in objectives.items()]


def short_task_names(names: Sequence[str]) -> list[str]:
    """Names without the words that all of them begin or end with."""
    words = [name.split("_") for name in names]
    if len(words) < 2:
        return list(names)
    while all(len(w) > 1 and w[0] == words[0][0] for w in words):
        words = [w[1:] for w in words]
    while all(len(w) > 1 and w[-1] == words[0][-1] for w in words):
        words = [w[:-1] for w in words]
    return ["_".join(w) for w in words]


def table_data(tables: Sequence[SplitTable]) -> list[dict[str, Any]]:
    """The tables as JSON holds them."""
    return [asdict(table) for table in tables]


def _table(
    run: RecordedRun, split: str, objective: Objective, outcomes: Mapping[int, Outcome]
) -> SplitTable:
    name = combined_name(objective)
    has_combined = len(objective.tasks) > 1 or name != "mean"
    is_multi = objective.name == "per_task"
    columns = [Column(name, is_objective=not is_multi)] if has_combined else []
    columns += _task_columns(objective, outcomes, is_objective=is_multi or not has_combined)
    each_task = Objective("per_task", objective.tasks, objective.keys)
    rules = ([combined(objective)] if has_combined else []) + [each_task]

    def scores_of(trial: Trial) -> tuple[Score | None, ...]:
        outcome = outcomes.get(trial.candidate.trial_id)
        if outcome is None or outcome.evaluation is None:
            return (None,) * len(columns)
        return tuple(score for rule in rules for score in rule.scores(outcome.evaluation))

    scores = {trial.candidate.trial_id: scores_of(trial) for trial in run.leaderboard.trials}
    parents = best_parents(run.leaderboard.trials, scores, len(columns))
    gains = Gains(run, split, rules, parents)
    names = short_origins(run.leaderboard.trials)

    def row(trial: Trial, row_name: str, *, is_winner: bool) -> Row:
        trial_id = trial.candidate.trial_id
        return Row(row_name, trial_id, is_winner, scores[trial_id], gains.of(trial_id))

    rows = [row(t, _winner_name(run, t, names), is_winner=True) for t in run.winners]
    rows += [
        row(t, names[t.candidate.trial_id], is_winner=False)
        for t in run.leaderboard.trials
        if t.candidate.is_baseline
    ]
    parent_names = tuple(None if parent is None else names[parent] for parent in parents)
    objectives = [column.is_objective for column in columns]
    numbers = [sum(objectives[:at]) if one else None for at, one in enumerate(objectives)]
    won = contests(run, split, rules, scores, numbers)
    return SplitTable(SPLIT_TITLES[split], tuple(columns), tuple(rows), parent_names, won)


def _task_columns(
    objective: Objective, outcomes: Mapping[int, Outcome], *, is_objective: bool
) -> list[Column]:
    evaluation = next(o.evaluation for o in outcomes.values() if o.evaluation is not None)
    columns = []
    names = short_task_names([task.name for task in objective.tasks])
    for index, task_name in enumerate(names):
        metric = objective.metric(evaluation, index)
        name = metric.key.metric + ("" if metric.key.filter == "none" else f",{metric.key.filter}")
        shown = name if metric.higher_is_better else f"-{name}"
        columns.append(Column(task_name, shown, is_objective))
    return columns


def _winner_name(run: RecordedRun, trial: Trial, names: Mapping[int, str]) -> str:
    trial_id = trial.candidate.trial_id
    name = f"trial {trial_id}" if run.leaderboard.is_multi else f"winner (trial {trial_id})"
    return f"{name} = {names[trial_id]}" if trial.candidate.is_baseline else name

"""The stages of a run one below the other: what each began with, and what it found."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.foundations.counted import counted
from evomerge.nouns.score_text import score_text
from evomerge.nouns.section import Section
from evomerge.nouns.trial import Trial
from evomerge.run.recorded_run import RecordedRun, earlier_stages

_SPLITS = {"tasks": "search", "validation": "validation", "holdout": "holdout"}


def stages_section(run: RecordedRun) -> Section | None:
    """The winner and the best model of each stage so far; nothing of a run that is no later one."""
    earlier = earlier_stages(run)
    if not earlier:
        return None
    stages = (*earlier, run)
    splits = [split for split in _SPLITS if any(split in ("tasks", *one.finals) for one in stages)]
    head = ("stage", "model", *(_SPLITS[split] for split in splits))
    rows = [row for one in stages for row in _rows(one, splits)]
    told = [f"{_name(one)}: {counted(len(one.leaderboard.trials), 'trial')}" for one in stages]
    return Section(
        "stages",
        "stages",
        head,
        tuple(rows),
        (", ".join(told),),
        {"stages": [dict(zip(head, row, strict=True)) for row in rows]},
    )


def _name(run: RecordedRun) -> str:
    return run.ledger.folder.path.name


def _rows(run: RecordedRun, splits: list[str]) -> Iterator[tuple[str, ...]]:
    """The winners, and the best model that the stage began with."""
    models = [trial for trial in run.leaderboard.ranked() if trial.candidate.origin.is_unmerged]
    for trial in run.winners:
        name = f"winner (trial {trial.candidate.trial_id})"
        yield (_name(run), name, *(_scores(run, trial, split) for split in splits))
    for trial in models[:1]:
        name = trial.candidate.origin.short
        yield (_name(run), name, *(_scores(run, trial, split) for split in splits))


def _scores(run: RecordedRun, trial: Trial, split: str) -> str:
    """Its score on a split, or its scores; empty where it has none there."""
    evaluation, objective = trial.outcome.evaluation, run.leaderboard.objective
    if split != "tasks":
        outcome = run.ledger.finals.get((split, trial.candidate.trial_id))
        if outcome is None or split not in run.finals:
            return ""
        evaluation, objective = outcome.evaluation, run.finals[split]
    return "" if evaluation is None else ", ".join(map(score_text, objective.scores(evaluation)))

"""What judges were asked, what that took, and how many verdicts are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.evaluators import KEEPS
from evomerge.evaluators.judge.judge_measures import COST, TOKENS
from evomerge.evaluators.judge.judge_settings import JudgeSettings
from evomerge.evaluators.judge.kept_judgments import FOLDER, KeptJudgments
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import LedgerError
from evomerge.genome.task_blocks import Task
from evomerge.genome.words import SPLITS, Split
from evomerge.nouns.evaluation import MetricKey
from evomerge.nouns.run_record import RunRecord
from evomerge.nouns.section import Section

_TAKEN = tuple(one.name for one in (*TOKENS, COST))


def judgments_section(run: RunRecord) -> Section | None:
    """One row per judged task; nothing where no judge has judged.

    A row counts what the judgments of all trials took when they were asked for, a sentence below
    what the run has asked for: answers that are alike are judged once.
    """
    trials = list(_trials(run))
    if not trials:
        return None
    asked = _asked(run)
    names = dict.fromkeys((one["split"], one["task"]) for one in trials)
    return Section(
        "judgments",
        "judges: what their judgments took, over all trials",
        ("task", "trials", "verdicts missing", "prompt tokens", "completion tokens", "cost"),
        tuple(
            _row(name if split == "tasks" else f"{name} ({split})", own)
            for split, name in names
            if (own := [one for one in trials if (one["split"], one["task"]) == (split, name)])
        ),
        (asked["unread"] or _sentence(asked),),
        {"asked": asked, "trials": trials},
    )


def _trials(run: RunRecord) -> Iterator[dict[str, Any]]:
    """What the judgments of each trial took, those that were found again too."""
    for split in SPLITS:
        judged = {task.name for task in _judged(run, split)}
        for trial_id, outcome in run.outcomes(split).items():
            evaluation = outcome.evaluation
            metrics = {one.key: one for one in (evaluation.metrics if evaluation else ())}
            # An evaluation begins with the tasks' own metrics.
            keys = [key for key in [*metrics][: len(run.genome.split(split))] if key.task in judged]
            for key in keys:
                taken = {name: metrics.get(MetricKey(key.task, name)) for name in _TAKEN}
                # What a judge takes, and whether a gate lets through, every document has.
                n_documents = max(one.n for one in metrics.values() if one.key.task == key.task)
                yield {
                    "trial": trial_id,
                    "split": split,
                    "task": key.task,
                    "n_missing": n_documents - metrics[key].n,
                    **{name: one and one.value * one.n for name, one in taken.items()},
                }


def _judged(run: RunRecord, split: Split) -> list[Task]:
    """The tasks of a split that judges judge."""
    return [task for task in run.genome.split(split) if KEEPS.get(task.kind) == FOLDER]


def _row(name: str, trials: list[dict[str, Any]]) -> tuple[str, ...]:
    sums = {one: sum(trial[one] or 0 for trial in trials) for one in ("n_missing", *_TAKEN)}
    cost = sums[COST.name]
    tokens = (f"{sums[one.name]:,.0f}" for one in TOKENS)
    return (
        name,
        str(len(trials)),
        str(sums["n_missing"] or ""),
        *tokens,
        f"{cost:.4g}" if cost else "",
    )


def _asked(run: RunRecord) -> dict[str, Any]:
    """What was asked for in the whole run, and paid."""
    kept = KeptJudgments(run.folder / FOLDER)
    try:
        kept.refresh()
    except LedgerError as error:
        return {"unread": f"what was asked for in the run cannot be told: {error}"}
    remarks = kept.remarks
    read = sum(one.prompt_tokens for one in remarks)
    written = sum(one.completion_tokens for one in remarks)
    tasks = [task for split in SPLITS for task in _judged(run, split)]
    costs = {JudgeSettings.model_validate(one.given).price(read, written) for one in tasks}
    return {
        "unread": "",
        "n_judgments": len(remarks),
        "prompt_tokens": read,
        "completion_tokens": written,
        "cost": costs.pop() if len(costs) == 1 else None,  # of several prices nobody knows
    }


def _sentence(asked: Mapping[str, Any]) -> str:
    cost = "" if asked["cost"] is None else f", cost {asked['cost']:.4g}"
    return (
        f"{counted(asked['n_judgments'], 'judgment')} asked for in the run: "
        f"{asked['prompt_tokens']:,} tokens of prompts and {asked['completion_tokens']:,} of "
        f"replies{cost}"
    )

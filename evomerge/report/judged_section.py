"""What judges said of the winner's answers, and what all judgments took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evomerge.evaluators.judge.judge_settings import JudgeSettings
from evomerge.evaluators.judge.kept_judgments import KeptJudgments
from evomerge.foundations.counted import counted
from evomerge.foundations.text_safety import one_line
from evomerge.nouns.evaluation import MetricKey
from evomerge.nouns.section import Section
from evomerge.run.recorded_run import RecordedRun

_LONGEST = 160  # characters of what is shown of a document
_TAKEN = ("prompt_tokens", "completion_tokens", "cost")


def judged_section(run: RecordedRun) -> Section | None:
    """One row per question of the winner; nothing where no judge has judged."""
    judged = {task.name for task in run.genome.tasks if task.kind == "judge"}
    keys = {key.task: key for key in run.leaderboard.objective.keys if key.task in judged}
    trials = list(_trials(run, keys))
    if not trials:
        return None
    winner = run.winners[0].candidate.trial_id if run.winners else trials[-1]["trial"]
    documents = list(_documents(run, winner, keys))
    asked = _asked(run)
    return Section(
        "judged",
        f"judges: what trial {winner} answered, and how it was judged",
        ("task", "question", "value", "answer and judgment"),
        tuple(
            (
                one["task"],
                str(one["document"]),
                "missing" if one["value"] is None else f"{one['value']:g}",
                _start(one["answer"]),
            )
            for one in documents
        ),
        tuple(_notes(asked, trials, winner)),
        {"trial": winner, "documents": documents, "asked": asked, "trials": trials},
    )


def _trials(run: RecordedRun, keys: dict[str, MetricKey]) -> Iterator[dict[str, Any]]:
    """What each trial's judgments took, those that were found again too."""
    for trial in run.leaderboard.trials:
        evaluation = trial.outcome.evaluation
        metrics = {one.key: one for one in (evaluation.metrics if evaluation else ())}
        for task, key in keys.items():
            if key in metrics:
                taken = {name: metrics.get(MetricKey(task, name)) for name in _TAKEN}
                n_asked = max((one.n for one in taken.values() if one), default=metrics[key].n)
                yield {
                    "trial": trial.candidate.trial_id,
                    "task": task,
                    "n_missing": n_asked - metrics[key].n,
                    **{name: one and one.value * one.n for name, one in taken.items()},
                }


def _documents(
    run: RecordedRun, trial_id: int, keys: dict[str, MetricKey]
) -> Iterator[dict[str, Any]]:
    for one in run.documents(trial_id):
        if one.task in keys:
            key = keys[one.task]
            value = one.values.get(f"{key.metric},{key.filter}")
            told = {"task": one.task, "document": one.doc_id, "value": value}
            yield {**told, "answer": str(one.answer or "")}


def _asked(run: RecordedRun) -> dict[str, Any]:
    """What was asked for in the whole run, and paid."""
    kept = KeptJudgments(run.ledger.folder.judgments)
    kept.refresh()
    remarks = kept.remarks
    read = sum(one.prompt_tokens for one in remarks)
    written = sum(one.completion_tokens for one in remarks)
    judges = [JudgeSettings.model_validate(t.given) for t in run.genome.tasks if t.kind == "judge"]
    costs = {one.price(read, written) for one in judges}
    cost = costs.pop() if len(costs) == 1 else None  # of several prices nobody knows
    return {
        "n_judgments": len(remarks),
        "prompt_tokens": read,
        "completion_tokens": written,
        "cost": cost,
    }


def _notes(asked: dict[str, Any], trials: list[dict[str, Any]], winner: int) -> Iterator[str]:
    cost = "" if asked["cost"] is None else f", cost {asked['cost']:.4g}"
    yield (
        f"{counted(asked['n_judgments'], 'judgment')} asked for in the run: "
        f"{asked['prompt_tokens']:,} tokens of prompts and {asked['completion_tokens']:,} of "
        f"replies{cost}"
    )
    lacking = [one for one in trials if one["n_missing"]]
    if lacking:
        yield (
            f"{counted(sum(one['n_missing'] for one in lacking), 'verdict')} missing in "
            f"{counted(len({one['trial'] for one in lacking}), 'trial')}"
        )
    yield f"`evomerge show RUN --answers {winner}` has answers and judgments in full"


def _start(text: str) -> str:
    told = one_line(text)
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]} (…)"

"""What the report tells of judges: what was asked for, and what is missing."""

from __future__ import annotations

from dataclasses import replace

from evomerge.evaluators.judge.judgments_section import judgments_section
from evomerge.evaluators.judge.kept_judgments import FOLDER, KeptJudgments, Remark
from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import Metric, MetricKey
from tests.recorded_runs import record_run


def judged(run, **settings):
    """The same run, its first task judged: 100 questions, one of which has no verdict."""
    own = {"name": "sort_search", "questions": "q", "prompts": "p", "model": "m", **settings}
    tasks = [Task.model_validate({"judge": own}), *run.genome.tasks[1:]]
    for trial in run.leaderboard.trials:
        found = trial.outcome.evaluation
        if found is not None:
            rating = replace(found.metrics[0], n=99)
            taken = {"prompt_tokens": 30.0, "completion_tokens": 2.0, "cost": 0.001}
            more = [
                Metric(MetricKey("sort_search", name), value, None, 100, False)
                for name, value in taken.items()
            ]
            object.__setattr__(found, "metrics", (rating, *found.metrics[1:], *more))
    return replace(run, genome=run.genome.model_copy(update={"tasks": tasks}))


def test_a_run_without_a_judge_has_no_such_section(tmp_path):
    assert judgments_section(record_run(tmp_path / "run")) is None


def test_what_judgments_took_and_what_is_missing_is_told(tmp_path):
    run = judged(record_run(tmp_path / "run"), prompt_price=1, completion_price=10)
    kept = KeptJudgments(run.ledger.folder.path / FOLDER)
    kept.keep("a", Remark("[[7]]", "", 1000, 50))
    kept.keep("b", Remark("", "refusal", 500, 0))
    section = judgments_section(run)
    n = sum(trial.outcome.evaluation is not None for trial in run.leaderboard.trials)
    row = ("sort_search", str(n), str(n), f"{n * 3000:,}", f"{n * 200:,}", f"{n * 0.1:.4g}")
    assert section.rows == (row,)
    assert section.notes == (
        "2 judgments asked for in the run: 1,500 tokens of prompts and 50 of replies, cost 0.002",
    )
    assert section.data["asked"]["n_judgments"] == 2
    assert section.data["trials"][0]["prompt_tokens"] == 3000


def test_judgments_of_all_splits_count(tmp_path):
    run = judged(record_run(tmp_path / "run"), prompt_price=1, completion_price=10)
    own = {"name": "sort_holdout", "questions": "q", "prompts": "p", "model": "m"}
    task = Task.model_validate({"judge": own})
    outcome = next(one for place, one in run.ledger.finals.items() if place[0] == "holdout")
    rating = replace(outcome.evaluation.metrics[0], key=MetricKey("sort_holdout", "rating"), n=40)
    tokens = Metric(MetricKey("sort_holdout", "prompt_tokens"), 10.0, None, 50, False)
    object.__setattr__(outcome.evaluation, "metrics", (rating, tokens))
    run = replace(run, genome=run.genome.model_copy(update={"holdout": [task]}))
    section = judgments_section(run)
    row = next(row for row in section.rows if row[0] == "sort_holdout (holdout)")
    assert row[2:4] == ("10", "500")
    assert section.data["asked"]["cost"] is None  # of two prices


def test_damaged_judgments_are_told_and_the_rest_is(tmp_path):
    run = judged(record_run(tmp_path / "run"))
    folder = run.ledger.folder.path / FOLDER
    folder.mkdir()
    (folder / "1-a.jsonl").write_text("{\n")
    section = judgments_section(run)
    assert section.rows[0][0] == "sort_search"
    assert "1-a.jsonl: holds a line that is no judgment" in section.notes[0]


def test_verdicts_of_documents_that_took_nothing_are_not_missing(tmp_path):
    run = judged(record_run(tmp_path / "run"))
    for trial in run.leaderboard.trials:
        found = trial.outcome.evaluation
        if found is not None:  # of 120 documents, 20 are in another language and none was judged
            rating = replace(found.metrics[0], n=120)
            gate = Metric(MetricKey("sort_search", "in_language"), 0.8, None, 120, True)
            object.__setattr__(found, "metrics", (rating, *found.metrics[1:], gate))
    section = judgments_section(run)
    assert section.rows[0][2] == ""
    assert {one["n_missing"] for one in section.data["trials"]} == {0}

"""What the report tells of judges: the winner's answers, and what all judgments took."""

from __future__ import annotations

from dataclasses import replace

from evomerge.evaluators.judge.kept_judgments import KeptJudgments, Remark
from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import Document
from evomerge.report.judged_section import judged_section
from tests.recorded_runs import record_run


def judged_run(folder, **settings):
    """A run whose first task is judged."""
    run = record_run(folder)
    own = {"name": "sort_search", "questions": "q", "prompts": "p", "model": "m", **settings}
    tasks = [Task.model_validate({"judge": own}), *run.genome.tasks[1:]]
    return replace(run, genome=run.genome.model_copy(update={"tasks": tasks}))


def test_a_run_without_a_judge_has_no_such_section(tmp_path):
    assert judged_section(record_run(tmp_path / "run")) is None


def test_answers_of_the_winner_and_what_judgments_took_are_told(tmp_path, monkeypatch):
    run = judged_run(tmp_path / "run", prompt_price=1, completion_price=10)
    said = "[answer 1]\na\x1b b\n\n[judgment: 7]\n" + 200 * "word "
    documents = (
        Document("sort_search", 3, {"acc,none": 7.0}, said),
        Document("sort_search", 4, {}),
    )
    monkeypatch.setattr(type(run), "documents", lambda self, trial_id, split="tasks": documents)
    kept = KeptJudgments(run.ledger.folder.judgments)
    kept.keep("a", Remark("[[7]]", "", 1000, 50))
    kept.keep("b", Remark("", "refusal", 500, 0))
    section = judged_section(run)
    first, second = section.rows
    assert first[:3] == ("sort_search", "3", "7")
    assert first[3].startswith("[answer 1] a\u241b b [judgment: 7] word")
    assert first[3].endswith("(…)")
    assert second[1:] == ("4", "missing", "")
    assert section.notes[0] == (
        "2 judgments asked for in the run: 1,500 tokens of prompts and 50 of replies, cost 0.002"
    )
    winner = run.winners[0].candidate.trial_id
    assert f"--answers {winner}" in section.notes[-1]
    assert section.data["documents"][0]["answer"] == said

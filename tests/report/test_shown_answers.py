"""What the best trial answered beside the best model, where answers were kept."""

from __future__ import annotations

from dataclasses import replace

from evomerge.nouns.evaluation import Document, Sample
from evomerge.nouns.parents import is_parent
from evomerge.report.answers_section import answers_section
from evomerge.run.recorded_run import RecordedRun
from tests.recorded_runs import record_run


def test_answers_of_the_winner_stand_beside_those_of_the_best_model(tmp_path, monkeypatch):
    run = record_run(tmp_path / "run")
    assert answers_section(run) is None
    parents = [trial for trial in run.leaderboard.ranked() if is_parent(trial)]
    samples = tuple(Sample("t", i, f"1+{i}\n?", "two", str(i + 1)) for i in range(3))
    for trial in parents[:2]:
        kept = replace(trial.outcome.evaluation, samples=samples)
        object.__setattr__(trial.outcome, "evaluation", kept)
    given = {0: "!" * 81, 1: 3}
    documents = [Document("t", i, {}, given.get(i)) for i in range(3)]
    monkeypatch.setattr(RecordedRun, "documents", lambda self, trial, split="tasks": documents)
    section, winner = answers_section(run), run.winners[0].candidate.trial_id
    assert section.head[4:] == (str(parents[0].candidate.origin), f"trial {winner}")
    assert section.rows == (
        ("t", "0", "1+0 ?", "1", "two", f"{'!' * 80}…"),
        ("t", "1", "1+1 ?", "2", "two", "option 4"),
    )
    assert f"--answers {winner}" in section.notes[0]
    assert section.data["documents"][0]["trial"] == "!" * 81

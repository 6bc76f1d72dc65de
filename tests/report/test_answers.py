"""What the best trial answered, where answers were kept."""

from __future__ import annotations

from dataclasses import replace

from evomerge.nouns.evaluation import Sample
from evomerge.report.answers_section import answers_section
from evomerge.run.recorded_run import RecordedRun
from tests.recorded_runs import record_run


def test_answers_of_the_winner_are_shown_split_by_split(tmp_path, monkeypatch):
    run = record_run(tmp_path / "run")
    assert answers_section(run) is None
    whole = RecordedRun.evaluation

    def evaluation(self, split, trial_id):
        found, sample = whole(self, split, trial_id), Sample(f"t_{split}", 4, "1+1?", "2", "two")
        return found and replace(found, samples=(sample,))

    monkeypatch.setattr(RecordedRun, "evaluation", evaluation)
    section, trial = answers_section(run), run.winners[0].candidate.trial_id
    assert [row[0] for row in section.rows] == ["tasks", "validation", "holdout"]
    assert "prompt ... '1+1?'" in section.notes[0]
    assert f"--answers {trial}" in section.notes[-1]
    assert section.data["samples"][0]["answer"] == "2"
    assert section.data["trial"] == trial

"""trials.csv has a row for every trial, with all that a data frame wants of it."""

import csv
from dataclasses import replace

from evomerge.nouns.evaluation import TrialState
from evomerge.nouns.origin import proposed
from evomerge.run.leaderboard import Leaderboard
from evomerge.trackers.trials_csv import TrialsCsv
from tests.recorded_runs import record_run


def rows_of(run):
    TrialsCsv(run).update(run)
    with (run.ledger.folder.path / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_trial_is_a_row(tmp_path):
    run = record_run(tmp_path / "run")
    rows = rows_of(run)
    trials = run.leaderboard.trials
    assert [row["trial"] for row in rows] == [str(t.candidate.trial_id) for t in trials]
    for row, trial in zip(rows, trials, strict=True):
        assert row["origin"] == str(trial.candidate.origin)
        assert row["state"] == trial.outcome.state.value
        assert row["failure"] == trial.outcome.failure
        point = {name: str(value) for name, value in trial.candidate.point.items()}
        assert {name: row[name] for name in point} == point
        if trial.outcome.evaluation is None:
            assert row["weighted_sum"] == row["sort_search/acc,none"] == ""
            continue
        (score,) = run.leaderboard.scores(trial)
        assert float(row["weighted_sum"]) == score.value
        assert float(row["weighted_sum stderr"]) == score.stderr
        assert int(row["weighted_sum n"]) == score.n
        for metric in trial.outcome.evaluation.metrics:
            assert float(row[str(metric.key)]) == metric.value
    assert {row["state"] for row in rows} == {"complete", "failed"}


def test_each_of_several_objectives_has_its_columns(tmp_path):
    row = rows_of(record_run(tmp_path / "run", objective="per_task"))[0]
    assert [name for name in row if name.endswith(" n")] == ["sort_search n", "twice_search n"]


def test_no_text_of_a_stranger_is_computed_or_obeyed(tmp_path):
    run = record_run(tmp_path / "run")
    trial = run.leaderboard.trials[-1]
    candidate = replace(trial.candidate, origin=proposed("=1+1"))
    failure = "=HYPERLINK(x)\n\x1b[2J"
    outcome = replace(trial.outcome, state=TrialState.FAILED, evaluation=None, failure=failure)
    strange = replace(trial, candidate=candidate, outcome=outcome)
    board = Leaderboard(run.leaderboard.objective, (*run.leaderboard.trials[:-1], strange))
    row = rows_of(type(run)(run.ledger, run.genome, board, run.finals))[-1]
    assert row["failure"] == "'=HYPERLINK(x) ␛[2J"
    assert row["origin"] == "optimizer, =1+1"

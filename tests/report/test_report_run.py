"""A run folder is read back as the search left it, without models or tasks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evomerge.foundations.errors import LedgerError
from evomerge.nouns.evaluation import TrialState
from evomerge.optimizers.gradient.lessons import name_of, to_bytes
from evomerge.optimizers.search_context import Effort, Lesson
from evomerge.report.curve import curve_of, text_plot
from evomerge.report.summary import headline, summary
from evomerge.report.trial_names import short_origins
from evomerge.report.trial_table import final_tables
from evomerge.report.workers_section import workers_section
from evomerge.run.leaderboard import Leaderboard
from evomerge.run.ledger.artifact_store import ArtifactStore
from evomerge.run.recorded_run import load_run
from tests.recorded_runs import BASELINES, FAILED_TRIAL, SPACE, record_run


@pytest.fixture
def run(tmp_path):
    return record_run(tmp_path / "run")


def test_a_run_read_from_disk_stands_as_the_one_that_was_written(run):
    again = load_run(run.ledger.folder.path)
    scores = [run.leaderboard.scores(trial) for trial in run.leaderboard.trials]
    assert [again.leaderboard.scores(trial) for trial in again.leaderboard.trials] == scores
    assert again.space == SPACE
    assert again.leaderboard.objective.keys == run.leaderboard.objective.keys


def test_the_tasks_own_metrics_are_the_first_ones_recorded(run):
    assert [str(key) for key in run.leaderboard.objective.keys] == [
        "sort_search/acc,none",
        "twice_search/perplexity,none",
    ]
    assert [str(key) for key in run.finals["holdout"].keys] == ["sort_holdout/acc,none"]


def test_validation_picks_the_winner_among_the_best_on_the_search_tasks(run):
    second = run.leaderboard.ranked()[1]
    assert [t.candidate.trial_id for t in run.winners] == [second.candidate.trial_id]


def test_before_the_finals_the_best_on_the_search_tasks_wins(tmp_path):
    run = record_run(tmp_path / "run", has_finals=False)
    assert run.winners == run.leaderboard.ranked()[:1]
    assert [table.title for table in final_tables(run)] == ["search"]


def test_with_several_objectives_the_front_wins(tmp_path):
    run = record_run(tmp_path / "run", objective="per_task", optimizer="nsga2")
    front = {trial.candidate.trial_id for trial in run.leaderboard.front()}
    assert {trial.candidate.trial_id for trial in run.winners} == front
    assert len(front) > 1


def test_reading_leaves_a_half_written_line_to_the_run_that_writes_it(run):
    ledger = run.ledger.folder.ledger
    ledger.write_bytes(ledger.read_bytes() + b'{"kind": "tri')
    before = ledger.read_bytes()
    assert len(load_run(run.ledger.folder.path).leaderboard.trials) == len(run.leaderboard.trials)
    assert ledger.read_bytes() == before


def test_a_folder_without_a_ledger_is_refused(tmp_path):
    with pytest.raises(LedgerError, match=r"no ledger\.jsonl in this folder"):
        load_run(tmp_path)


def test_the_final_table_holds_winner_and_baselines_on_every_split(run):
    tables = final_tables(run)
    assert [table.title for table in tables] == ["search", "validation", "holdout"]
    for table in tables:
        assert len(table.rows) == 1 + len(BASELINES)
        assert all(len(row.scores) == len(table.columns) for row in table.rows)
    names = [column.name for column in tables[0].columns]
    assert names == ["mean", "sort", "twice"]
    assert tables[0].columns[2].metric == "-perplexity"


def test_a_lower_is_better_metric_stands_turned(run):
    table = final_tables(run)[0]
    sort = next(row for row in table.rows if row.name == "sort")
    assert sort.scores[2].value == -BASELINES["model experts/sort"][1]
    assert table.best_in(1) == max(row.scores[1].value for row in table.rows)


def test_the_curve_never_falls_and_leaves_out_the_failed(run):
    curve = curve_of(run)
    failed = curve.trial_ids.index(FAILED_TRIAL)
    assert curve.scores[failed] is None
    assert list(curve.best) == sorted(curve.best)
    assert set(curve.levels) == {"sort", "twice", "base", "uniform average"}


@pytest.mark.parametrize("width", [20, 80])
def test_the_plot_fits_its_width(run, width):
    lines = text_plot(curve_of(run), width)
    assert max(map(len, lines[:-1])) <= width  # the legend is a sentence
    assert lines[0].strip().startswith(f"{curve_of(run).best[-1]:.4f}")


def test_a_run_without_trials_of_the_optimizer_has_no_plot(tmp_path):
    run = record_run(tmp_path / "run", n_trials=0, has_finals=False)
    assert text_plot(curve_of(run), 80) == []


def test_models_go_by_the_end_of_their_path(run):
    names = short_origins(run.leaderboard.trials)
    assert list(names.values()) == ["sort", "twice", "base", "uniform average"]


def test_the_summary_is_json(run):
    content = json.loads(json.dumps(summary(run)))
    assert content["n_failed"] == 1
    assert content["winners"][0]["trial"] == run.winners[0].candidate.trial_id
    assert "12/12 trials, 1 failed" in headline(run)
    assert run.ledger.trials[FAILED_TRIAL].outcome.state is TrialState.FAILED


def test_the_idle_share_of_workers_is_told_where_there_are_several(run):
    assert summary(run)["idle_share"] is None
    assert "idle" not in headline(run)
    trials = [replace(trial, idle=2.0) for trial in run.leaderboard.trials]
    busy = sum(sum(trial.outcome.seconds.values()) for trial in trials)
    several = replace(run, leaderboard=Leaderboard(run.leaderboard.objective, tuple(trials)))
    share = 2 * len(trials) / (2 * len(trials) + busy)
    assert summary(several)["idle_share"] == pytest.approx(share)
    assert headline(several).endswith(f"workers idle {share:.0%} of the time")
    assert workers_section(run) is None
    found = workers_section(several)
    assert [row[0] for row in found.rows] == ["baselines", "cma_es"]
    assert sum(float(row[2]) for row in found.rows) == pytest.approx(2 * len(trials))
    assert found.notes[1].startswith("cma_es, while others are out: another sample of the present")
    little = replace(
        several,
        leaderboard=Leaderboard(
            run.leaderboard.objective, [replace(trial, idle=0.001) for trial in trials]
        ),
    )
    assert workers_section(little).notes == ()


def test_training_in_the_place_of_a_worker_is_no_idle_time(tmp_path):
    run = record_run(tmp_path / "run", optimizer="gradient", taught_from=0)
    lesson = Lesson(np.full(run.space.n_dims, 0.5), b"", {}, effort=Effort(seconds=30.0))
    ArtifactStore(run.ledger.folder).keep(name_of(1), to_bytes(lesson))
    trials = [replace(trial, idle=2.0, elapsed=5.0) for trial in run.leaderboard.trials]
    busy = sum(sum(trial.outcome.seconds.values()) for trial in trials)

    def of(own):
        return replace(run, leaderboard=Leaderboard(run.leaderboard.objective, tuple(own)))

    waited = 2.0 * len(trials)
    share = waited / (waited + busy + 30.0)
    assert summary(of(trials))["idle_share"] == pytest.approx(share)
    own = workers_section(of(trials)).rows[1]
    searched = [t for t in trials if not t.candidate.is_baseline]
    own_busy = sum(sum(t.outcome.seconds.values()) for t in searched) + 30.0
    own_idle = 2.0 * len(searched)
    assert own[3] == f"{own_idle / (own_idle + own_busy):.1%}"
    # What was trained while there was one worker took no place of another.
    alone = [replace(t, elapsed=None) if t.candidate.origin.is_taught else t for t in trials]
    assert summary(of(alone))["idle_share"] == pytest.approx(waited / (waited + busy))

"""study.journal is a study that Optuna reads as its own."""

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from evomerge.run.leaderboard import Leaderboard
from evomerge.trackers.optuna_journal import OptunaJournal
from tests.recorded_runs import FAILED_TRIAL, record_run


def study_of(run):
    storage = JournalStorage(JournalFileBackend(str(run.ledger.folder.journal)))
    return optuna.load_study(study_name=None, storage=storage)


@pytest.fixture
def run(tmp_path):
    return record_run(tmp_path / "run", n_trials=20)


def test_every_point_of_the_space_is_a_trial_with_its_natural_values(run):
    OptunaJournal(run)
    trials = study_of(run).trials
    expected = [t for t in run.leaderboard.trials if t.candidate.point]
    assert [t.params for t in trials] == [dict(t.candidate.point) for t in expected]
    assert [t.user_attrs["trial"] for t in trials] == [t.candidate.trial_id for t in expected]


def test_the_best_of_the_study_is_the_best_of_the_run(run):
    OptunaJournal(run)
    study = study_of(run)
    best = run.leaderboard.best
    assert study.best_trial.user_attrs["trial"] == best.candidate.trial_id
    assert study.best_value == run.leaderboard.scores(best)[0].value


def test_a_failed_trial_fails_there_too_and_says_why(run):
    OptunaJournal(run)
    (failed,) = study_of(run).get_trials(states=[TrialState.FAIL])
    assert failed.user_attrs["trial"] == FAILED_TRIAL
    assert failed.user_attrs["failure"] == "merge: weights <sum> to nothing"


def test_updates_add_only_what_is_new(run):
    half = Leaderboard(run.leaderboard.objective, run.leaderboard.trials[:10])
    journal = OptunaJournal(type(run)(run.ledger, run.genome, half, run.finals))
    journal.update(run)
    journal.update(run)
    whole = study_of(run).trials
    OptunaJournal(run)
    assert [t.params for t in whole] == [t.params for t in study_of(run).trials]


def test_a_broken_journal_is_begun_anew(run):
    run.ledger.folder.journal.write_text("not a journal")
    OptunaJournal(run)
    assert len(study_of(run).trials) == 21


def test_several_objectives_are_several_directions(tmp_path):
    run = record_run(tmp_path / "run", objective="per_task", optimizer="nsga2")
    OptunaJournal(run)
    study = study_of(run)
    assert study.metric_names == ["sort_search", "twice_search"]
    front = {trial.candidate.trial_id for trial in run.leaderboard.front()}
    assert {t.user_attrs["trial"] for t in study.best_trials} == front


@pytest.mark.slow  # Optuna loads scikit-learn for it
def test_optuna_tells_the_importance_of_every_parameter(run):
    OptunaJournal(run)
    importance = optuna.importance.get_param_importances(study_of(run))
    assert set(importance) == {parameter.name for parameter in run.space}


def test_a_run_that_is_killed_leaves_no_lock_that_it_would_refuse(run, monkeypatch):
    there = set(run.ledger.folder.path.iterdir())
    seen = []
    write = JournalFileBackend.append_logs

    def watched(backend, logs):
        monkeypatch.setattr("os.fsync", lambda _: seen.append({*there_now()} - there))
        write(backend, logs)

    def there_now():
        return run.ledger.folder.path.iterdir()

    monkeypatch.setattr(JournalFileBackend, "append_logs", watched)
    OptunaJournal(run)
    assert seen
    assert all(new == {run.ledger.folder.journal} for new in seen)

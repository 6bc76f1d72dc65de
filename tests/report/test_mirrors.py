"""The mirrors follow the ledger, and take little of a run's time."""

from itertools import pairwise

import pytest

from evomerge.nouns.events import RunFinished, TrialFinished
from evomerge.trackers.mirrors import Mirrors
from tests.recorded_runs import record_run
from tests.report.test_optuna_journal import study_of


class Clock:
    """Rises by a second each time it is read."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def run(tmp_path):
    return record_run(tmp_path / "run")


def finished(trial, *, was_recorded=False):
    return TrialFinished(trial.candidate, trial.outcome, was_recorded=was_recorded)


def test_they_are_complete_when_the_run_is(run):
    mirrors = Mirrors(run.ledger, run.genome)
    list(mirrors.see(RunFinished("budget", len(run.standing.trials))))
    assert len(study_of(run).trials) == 13
    assert run.ledger.folder.report.is_file()


def test_they_wait_a_hundred_times_as_long_as_they_took(run):
    mirrors = Mirrors(run.ledger, run.genome, Clock())
    written = []
    mirrors.write = lambda: written.append(mirrors.clock.now)
    for trial in [*run.standing.trials] * 20:
        list(mirrors.see(finished(trial)))
    gaps = [b - a for a, b in pairwise(written)]
    assert len(written) >= 2
    assert min(gaps) >= 100


def test_trials_from_the_ledger_are_no_reason_to_write(run):
    mirrors = Mirrors(run.ledger, run.genome)
    list(mirrors.see(finished(run.standing.trials[0], was_recorded=True)))
    assert not run.ledger.folder.report.exists()


def test_a_run_without_a_score_has_no_mirrors(run):
    run.ledger.trials.clear()
    Mirrors(run.ledger, run.genome).write()
    assert not run.ledger.folder.report.exists()


def test_a_mirror_that_cannot_be_written_is_told_once_and_ends_nothing(run):
    mirrors = Mirrors(run.ledger, run.genome)
    run.ledger.folder.report.mkdir()
    (notice,) = mirrors.see(RunFinished("budget", len(run.standing.trials)))
    assert notice.message.startswith("report.html and study.journal could not be written (Lost")
    assert list(mirrors.see(RunFinished("budget", len(run.standing.trials)))) == []

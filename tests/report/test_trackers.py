"""What every tracker of the table must show, and that all take little of a run's time."""

import logging
import re
from itertools import pairwise

import pytest

from evomerge.foundations.errors import LedgerError
from evomerge.foundations.library_log import kept_log
from evomerge.nouns.events import RunFinished, RunStarted, TrialFinished
from evomerge.run.leaderboard import Leaderboard
from evomerge.trackers import TRACKERS
from evomerge.trackers import feed as feed_module
from evomerge.trackers.feed import Feed
from tests.recorded_runs import record_run
from tests.report.test_optuna_journal import study_of

ALL = tuple(TRACKERS)


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
    feed = Feed(run.ledger, run.genome, ALL)
    list(feed(RunFinished("budget", len(run.leaderboard.trials))))
    feed.close()
    assert len(study_of(run).trials) == 13
    assert run.ledger.folder.report.is_file()


def test_they_wait_a_hundred_times_as_long_as_they_took(run):
    feed = Feed(run.ledger, run.genome, ALL, Clock())
    written = []
    feed.update = lambda: iter(written.append(feed.clock.now) or ())
    for trial in [*run.leaderboard.trials] * 20:
        list(feed(finished(trial)))
    gaps = [b - a for a, b in pairwise(written)]
    assert len(written) >= 2
    assert min(gaps) >= 100


def test_only_those_that_were_named_hear_of_a_run(run):
    list(Feed(run.ledger, run.genome, ["page"])(RunFinished("budget", 1)))
    assert run.ledger.folder.report.is_file()
    assert not run.ledger.folder.journal.exists()


def test_trials_from_the_ledger_are_no_reason_to_write(run):
    feed = Feed(run.ledger, run.genome, ALL)
    list(feed(finished(run.leaderboard.trials[0], was_recorded=True)))
    assert not run.ledger.folder.report.exists()


def test_a_run_without_a_score_is_not_kept(run):
    run.ledger.trials.clear()
    assert list(Feed(run.ledger, run.genome, ALL).update()) == []
    assert not run.ledger.folder.report.exists()


def started(run):
    return RunStarted(str(run.ledger.folder.path), 12, 4, len(run.ledger.trials))


def test_the_log_is_there_from_the_first_event_with_what_was_said_before(run):
    feed = Feed(run.ledger, run.genome, ALL)
    run.ledger.trials.clear()
    with kept_log():
        logging.getLogger("library").info("early")
        assert list(feed(started(run))) == []
        logging.getLogger("library").info("late")
        feed.close()
        logging.getLogger("library").info("after")
    text = file_of(run, "log").read_text()
    assert [word for word in ("early", "late", "after") if word in text] == ["early", "late"]
    assert not file_of(run, "csv").exists()


def test_a_log_that_nobody_kept_before_is_written_all_the_same_until_it_is_closed(run):
    root = logging.getLogger()
    before = root.handlers[:]
    feed = Feed(run.ledger, run.genome, ["log"])
    list(feed(started(run)))
    root.warning("late")
    feed.close()
    assert root.handlers == before
    assert file_of(run, "log").read_text().endswith("WARNING root: late\n")


def test_an_earlier_process_is_not_forgotten_by_the_log(run):
    file_of(run, "log").write_text("earlier\n")
    feed = Feed(run.ledger, run.genome, ["log"])
    list(feed(started(run)))
    feed.close()
    assert file_of(run, "log").read_text() == "earlier\n"


def file_of(run, name):
    return run.ledger.folder.path / TRACKERS[name].target


def test_a_run_that_cannot_be_read_back_ends_nothing(run, monkeypatch):
    def broken(*_):
        raise LedgerError("it contradicts itself")

    monkeypatch.setattr(feed_module, "recorded_run", broken)
    feed = Feed(run.ledger, run.genome, ALL)
    (notice,) = feed(RunFinished("budget", 1))
    assert notice.message.startswith(f"what is kept for others ({', '.join(ALL)}) could not be")
    assert list(feed(RunFinished("budget", 1))) == []


def test_one_that_cannot_be_loaded_is_told_once_and_ends_nothing(run, monkeypatch):
    monkeypatch.setitem(TRACKERS._targets, "far", "evomerge.no_such_module:Far")
    feed = Feed(run.ledger, run.genome, ["far", "csv"])
    assert list(feed(started(run))) == []
    (notice,) = feed(RunFinished("budget", len(run.leaderboard.trials)))
    assert notice.message.startswith("tracker far could not be written (ModuleNotFoundError")
    assert list(feed(RunFinished("budget", len(run.leaderboard.trials)))) == []
    assert file_of(run, "csv").is_file()


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_one_that_cannot_write_is_told_once_and_ends_nothing(run, name):
    others = [one for one in ("csv", "log") if one != name]  # those that take little time
    feed = Feed(run.ledger, run.genome, [name, *others])
    file_of(run, name).mkdir()
    (notice,) = feed(RunFinished("budget", len(run.leaderboard.trials)))
    assert notice.message.startswith(f"{TRACKERS[name].target} could not be written (")
    assert list(feed(RunFinished("budget", len(run.leaderboard.trials)))) == []
    feed.close()
    assert all(file_of(run, other).is_file() for other in others)


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_what_is_kept_step_by_step_is_what_is_kept_at_once(tmp_path, name):
    run = record_run(tmp_path / "run")
    file = file_of(run, name)
    half = Leaderboard(run.leaderboard.objective, run.leaderboard.trials[:5])
    tracker = TRACKERS[name](type(run)(run.ledger, run.genome, half, run.finals))
    tracker.update(run)
    tracker.update(run)
    step_by_step = without_times(file.read_text("utf-8"))
    tracker.close()
    at_once = TRACKERS[name](run)
    at_once.update(run)
    at_once.close()
    assert without_times(file.read_text("utf-8")) == step_by_step


def without_times(text):
    return re.sub(
        r"\d{4}-\d\d-\d\d[T ][\d:.]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-?\w*", "", text
    )

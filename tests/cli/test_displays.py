"""Both displays tell the same run: as a picture, and as lines."""

import io
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from evomerge.cli.event_lines import LineView, _opening
from evomerge.cli.live import LiveView, sparkline
from evomerge.cli.progress import Progress, duration
from evomerge.cli.run import _running
from evomerge.foundations.counted import counted, failures
from evomerge.nouns.events import (
    FinalScored,
    Preparing,
    Proposing,
    RunFinished,
    RunStarted,
    StageStarted,
    TrialFinished,
    TrialStarted,
)
from tests.recorded_runs import FAILED_TRIAL, record_run


def test_a_first_ctrl_c_says_what_is_finished_yet():
    def running(event, activity):
        view = LineView(Progress(("score",)))
        view.progress.see(event)
        return _running(view, SimpleNamespace(activity=activity))

    training = "epoch 2 of 3: training"
    assert running(Proposing(training, 0.5), training) == "epoch 2 of 3"
    assert running(StageStarted(7, "evaluate"), training) == "the running trial"
    assert running(Proposing("", 1.0), "") == "the running trial"


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def run(tmp_path):
    return record_run(tmp_path / "run")


def events_of(run, *, n_recorded=0):
    """The events a search of these trials yields."""
    leaderboard = run.leaderboard
    yield RunStarted("runs/skills", 12, 4, n_recorded, ("the tasks are small",))
    best = None
    for trial in leaderboard.trials:
        trial_id = trial.candidate.trial_id
        scores = leaderboard.scores(trial)
        was_recorded = trial_id < n_recorded
        if not was_recorded:
            yield TrialStarted(trial.candidate)
            yield StageStarted(trial_id, "merge")
            yield StageStarted(trial_id, "evaluate")
        is_best = bool(scores) and (best is None or scores[0].value > best)
        best = scores[0].value if is_best else best
        is_best = is_best and not leaderboard.is_multi
        yield TrialFinished(trial.candidate, trial.outcome, scores, is_best, was_recorded)
    winner = run.winners[0].candidate
    yield TrialStarted(winner)
    yield StageStarted(winner.trial_id, "merge")
    outcome = run.ledger.finals[("holdout", winner.trial_id)]
    yield FinalScored(winner, "holdout", run.finals["holdout"].scores(outcome.evaluation))
    yield RunFinished("budget", len(leaderboard.trials))


def picture(run, events, width=80):
    """What the terminal shows after these events."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=False, legacy_windows=False)
    clock = Clock()
    view = LiveView(Progress(run.leaderboard.objective.labels, clock), console)
    for event in events:
        clock.now += 1.0
        view.show(event)
    console.print(view.picture())
    return re.sub("[\u2800-\u28ff]", "*", file.getvalue())  # the spinner turns


def test_the_lines_of_a_run(run, is_golden, capsys):
    with LineView(Progress(run.leaderboard.objective.labels)) as view:
        for event in events_of(run):
            view.show(event)
    is_golden("cli/run_lines.txt", capsys.readouterr().err)


def test_a_split_that_could_not_be_scored_says_why(run, capsys):
    event = FinalScored(run.winners[0].candidate, "holdout", (), "no room for a prompt")
    LineView(Progress(run.leaderboard.objective.labels)).show(event)
    which = f"holdout of trial {event.candidate.trial_id}"
    assert capsys.readouterr().err == f"{which}: failed: no room for a prompt\n"
    events = [*events_of(run), event]
    assert f"{which} failed: no room for a prompt" in picture(run, events)


def test_the_lines_of_a_continued_run_leave_out_what_was_told_before(run, capsys):
    view = LineView(Progress(run.leaderboard.objective.labels))
    for event in events_of(run, n_recorded=14):
        view.show(event)
    lines = capsys.readouterr().err.splitlines()
    assert "continued: 14 trials recorded already" in lines
    assert [line.split()[1] for line in lines if line.startswith("trial")] == ["14", "15"]


def test_the_picture_of_a_run_at_work(run, is_golden):
    events = list(events_of(run))
    cut = next(i for i, e in enumerate(events) if e == StageStarted(12, "evaluate"))
    is_golden("cli/run_live.txt", picture(run, events[: cut + 1]))


def test_the_picture_before_the_first_trial_is_one_line(run):
    assert "loading models and tasks" in picture(run, [])


def test_the_picture_of_several_objectives_names_each(tmp_path):
    run = record_run(tmp_path / "run", objective="per_task", optimizer="nsga2")
    shown = picture(run, list(events_of(run)), width=120)
    assert "sort_search 0.7588 ± 0.0428 (n=100)" in shown
    best = "twice_search -3.1000 ± 0.2500 (n=100)  each the highest of a front of "
    assert f"{best}{len(run.leaderboard.front())}" in shown


def test_the_picture_fits_a_narrow_terminal(run):
    shown = picture(run, list(events_of(run)), width=60)
    assert max(map(len, shown.splitlines())) <= 60


def test_a_scoring_after_the_search_is_called_that(run):
    progress = Progress(run.leaderboard.objective.labels)
    seen = []
    for event in events_of(run):
        progress.see(event)
        seen.append(progress.stage)
    assert f"final scores, trial {run.winners[0].candidate.trial_id}: merge" in seen


def test_failures_are_counted_and_the_best_is_remembered(run):
    progress = Progress(run.leaderboard.objective.labels)
    for event in events_of(run):
        progress.see(event)
    assert progress.n_failed == 1
    assert progress.n_done == 12
    assert progress.best == run.leaderboard.best.candidate
    assert run.ledger.trials[FAILED_TRIAL].outcome.failure
    assert progress.ending == "12 of 12 trials, 1 failed: the budget is spent"


def test_trials_and_baselines_that_failed_are_counted_apart(run):
    progress = Progress(run.leaderboard.objective.labels)
    for event in events_of(run):
        if isinstance(event, TrialFinished) and event.candidate.is_baseline:
            failed = run.ledger.trials[FAILED_TRIAL].outcome
            event = replace(event, outcome=failed, scores=(), is_best=False)
        progress.see(event)
    assert progress.ending == "12 of 12 trials, 1 failed and 4 baselines: the budget is spent"
    assert [failures(0, 0), failures(0, 1), failures(2, 0)] == ["", "1 baseline failed", "2 failed"]


def test_one_is_singular():
    assert [counted(n, "trial") for n in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]
    assert _opening(RunStarted("r", 1, 1, 0, ())) == ["run r: 1 trial over 1 parameter"]


def test_the_time_left_is_the_pace_of_the_new_trials(run):
    clock = Clock()
    progress = Progress(run.leaderboard.objective.labels, clock)
    left = {}
    for event in events_of(run, n_recorded=8):
        if isinstance(event, TrialFinished) and not event.was_recorded:
            clock.now += 10.0
        progress.see(event)
        if isinstance(event, TrialFinished):
            left[event.candidate.trial_id] = progress.seconds_left
    assert left[7] is None
    assert left[8] == 70.0
    assert left[15] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"), (3600, "1 h 00 min")],
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


def test_a_sparkline_has_at_most_its_width_and_ends_with_the_last_value():
    assert sparkline([0.0, 1.0], 40) == "▁█"
    assert len(sparkline(list(range(1000)), 40)) == 40
    assert sparkline(list(range(1000)), 40).endswith("█")


def test_lines_tell_a_tenth_of_what_an_optimizer_does_and_the_picture_all(capsys):
    lines = LineView(Progress(("score",)))
    picture = LiveView(Progress(("score",)), Console(file=io.StringIO()))
    for step in range(101):
        event = Proposing(f"step {step} of 100", step / 100)
        lines.show(event)
        picture.show(event)
        assert picture.progress.stage == event.activity
    told = capsys.readouterr().err.splitlines()
    assert told == [f"step {step} of 100" for step in range(0, 101, 10)]


def test_what_keeps_its_name_is_told_with_how_far_it_is(capsys):
    lines = LineView(Progress(("score",)))
    for share in (0.0, 0.33, 0.34, 0.66):
        lines.show(Preparing("mergekit-yaml builds sums", share))
    assert capsys.readouterr().err.splitlines() == [
        "mergekit-yaml builds sums",
        "mergekit-yaml builds sums: 30 %",
        "mergekit-yaml builds sums: 60 %",
    ]

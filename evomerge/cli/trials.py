"""The table of trials."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from evomerge.cli.drawn import empty_table
from evomerge.cli.plain_text import plain
from evomerge.nouns.score_text import score_text
from evomerge.nouns.trial import Trial
from evomerge.report.combined import combined_name
from evomerge.report.trial_names import trial_notes
from evomerge.run.recorded_run import RecordedRun


def draw_trials(console: Console, run: RecordedRun, title: str, trials: Sequence[Trial]) -> None:
    """Prints one line per trial; the title alone where there is none."""
    console.print(plain(f"\n{title}", style="bold"))
    if not trials:
        return
    names = trial_notes(run.leaderboard.trials)
    objective = run.leaderboard.objective
    labels = objective.labels if run.leaderboard.is_multi else (combined_name(objective),)
    table = empty_table()
    table.add_column("trial", justify="right")
    for label in labels:
        table.add_column(plain(label), justify="right", no_wrap=True)
    table.add_column("seconds", justify="right")
    table.add_column("")
    for trial in trials:
        trial_id, outcome = trial.candidate.trial_id, trial.outcome
        scores = [plain(score_text(score)) for score in run.leaderboard.scores(trial)]
        table.add_row(
            plain(str(trial_id)),
            *(scores or [plain("failed", style="red")] + [plain()] * (len(labels) - 1)),
            plain(f"{sum(outcome.seconds.values()):.2f}"),
            plain(outcome.failure or names.get(trial_id, "")),
        )
    console.print(table)

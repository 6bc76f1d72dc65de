"""The run as a table for spreadsheets and data frames: trials.csv, one row per trial."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, ClassVar

from evomerge.foundations.files import write_atomic
from evomerge.foundations.text_safety import one_line
from evomerge.nouns.trial import Trial
from evomerge.run.recorded_run import RecordedRun
from evomerge.trackers.base import Tracker

_FORMULA = ("=", "+", "-", "@")  # what a cell begins with that a spreadsheet computes


class TrialsCsv(Tracker):
    """Writes the whole table each time: trials of several workers are over in any order.

    Columns: the trial's id, origin and state, score, standard error and documents of each
    objective, every metric of the search tasks by its name, every parameter by its own, seconds,
    and why it failed. What a trial has not is an empty cell.
    """

    target: ClassVar[str] = "trials.csv"

    def __init__(self, run: RecordedRun) -> None:
        """Nothing is kept between two tables."""

    def update(self, run: RecordedRun) -> None:
        """See :class:`Tracker`."""
        rows = [dict(_cells(run, trial)) for trial in run.leaderboard.trials]
        seen = dict.fromkeys(column for row in rows for column in row)
        columns = sorted(
            seen, key=lambda column: column[0]
        )  # those of one kind as trials have them
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([_shown(name) for _, name in columns])
        table.writerows([[_shown(row.get(column, "")) for column in columns] for row in rows])
        write_atomic(run.ledger.folder.path / self.target, text.getvalue())


def _cells(run: RecordedRun, trial: Trial) -> Iterator[tuple[tuple[int, str], Any]]:
    """Kind of column and its name -> what stands in it."""
    candidate, outcome = trial.candidate, trial.outcome
    yield (0, "trial"), candidate.trial_id
    yield (1, "origin"), str(candidate.origin)
    yield (2, "state"), outcome.state.value
    scores = run.leaderboard.scores(trial)
    for label, score in zip(run.leaderboard.objective.labels, scores, strict=False):
        yield (3, label), score.value
        yield (3, f"{label} stderr"), score.stderr
        yield (3, f"{label} n"), score.n
    for metric in outcome.evaluation.metrics if outcome.evaluation is not None else ():
        yield (4, str(metric.key)), metric.value
    for name, value in candidate.point.items():
        yield (5, name), value
    yield (6, "seconds"), sum(outcome.seconds.values())
    yield (7, "failure"), outcome.failure


def _shown(value: Any) -> Any:
    """A cell: of a text nothing that a terminal obeys or a spreadsheet would compute."""
    if not isinstance(value, str):
        return value
    line = one_line(value)
    return f"'{line}" if line.startswith(_FORMULA) else line

"""Convergence: the score of every trial, the best so far, and what was there before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from evomerge.nouns.objective import Score
from evomerge.nouns.score_text import number
from evomerge.report.combined import combined, combined_name
from evomerge.report.trial_names import short_origins
from evomerge.run.recorded_run import RecordedRun

_SCALE_WIDTH = 10
_BEST, _TRIAL, _REFERENCE = "━", "·", "┄"


@dataclass(frozen=True)
class Curve:
    """The trials of the optimizer in order, with the baselines as levels.

    Attributes:
        label: What the score is.
        trial_ids: The optimizer's trials.
        scores: Of each of them, None where it failed or is infinite.
        best: Highest score up to each of them, baselines included; None before any.
        levels: Baseline that the winner has to beat -> its score.
    """

    label: str
    trial_ids: tuple[int, ...]
    scores: tuple[Score | None, ...]
    best: tuple[float | None, ...]
    levels: Mapping[str, Score]

    @property
    def values(self) -> tuple[float | None, ...]:
        """The scores without their errors."""
        return tuple(None if score is None else score.value for score in self.scores)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest score there is."""
        return _bounds([*self.values, *(level.value for level in self.levels.values())])

    @property
    def best_level(self) -> tuple[str, Score] | None:
        """The best baseline."""
        return max(self.levels.items(), key=lambda level: level[1].value, default=None)


def curve_of(run: RecordedRun) -> Curve:
    """The curve of a run; several objectives are shown by their mean."""
    objective = combined(run.leaderboard.objective)
    names = short_origins(run.leaderboard.trials)
    levels: dict[str, Score] = {}
    ids: list[int] = []
    scores: list[Score | None] = []
    for trial in run.leaderboard.trials:
        evaluation = trial.outcome.evaluation
        score = None if evaluation is None else _finite(objective.scores(evaluation)[0])
        if not trial.candidate.is_baseline:
            ids.append(trial.candidate.trial_id)
            scores.append(score)
        elif score is not None and trial.candidate.origin.may_win:
            levels[names[trial.candidate.trial_id]] = score
    start: float | None = max((level.value for level in levels.values()), default=None)
    values = [None if score is None else score.value for score in scores]
    best = list(accumulate([start, *values], _higher))[1:]
    return Curve(
        combined_name(run.leaderboard.objective), tuple(ids), tuple(scores), tuple(best), levels
    )


def _finite(score: Score) -> Score | None:
    """A score that has a place in a picture; perplexities may overflow."""
    return score if math.isfinite(score.value) else None


def _bounds(scores: Sequence[float | None]) -> tuple[float, float]:
    known = [score for score in scores if score is not None]
    return (min(known), max(known)) if known else (0.0, 1.0)


def _higher(best: float | None, score: float | None) -> float | None:
    known = [value for value in (best, score) if value is not None]
    return max(known, default=None)


def text_plot(curve: Curve, width: int, height: int = 8) -> list[str]:
    """The curve in characters, one line of text each.

    Args:
        curve: What to draw.
        width: Columns of the whole plot, the scale on the left included.
        height: Rows of the drawing.
    """
    if not curve.trial_ids:
        return []
    level = curve.best_level
    low, high = _bounds([*curve.values, *curve.best, level[1].value if level else None])
    span = high - low or 1.0
    n_columns = max(min(width - _SCALE_WIDTH - 1, len(curve.trial_ids)), 1)
    rows = [[" "] * n_columns for _ in range(height)]

    def row(score: float) -> int:
        return round((high - score) / span * (height - 1))

    if level is not None:
        rows[row(level[1].value)] = [_REFERENCE] * n_columns
    for index, score in enumerate(curve.values):
        if score is not None:
            rows[row(score)][index * n_columns // len(curve.values)] = _TRIAL
    for index, best in enumerate(curve.best):
        if best is not None:
            rows[row(best)][index * n_columns // len(curve.best)] = _BEST
    labels = {0: number(high), height - 1: number(low)}
    if level is not None:
        labels.setdefault(row(level[1].value), number(level[1].value))
    drawn = [_line(labels.get(index, ""), line) for index, line in enumerate(rows)]
    return [*drawn, _axis(curve.trial_ids, n_columns), _legend(level)]


def _axis(trial_ids: Sequence[int], n_columns: int) -> str:
    first, last = str(trial_ids[0]), str(trial_ids[-1])
    gap = max(n_columns - len(first) - len(last), 1)
    return _line("trial", [first, " " * gap, last if len(trial_ids) > 1 else ""])


def _line(label: str, content: Sequence[str]) -> str:
    return f"{label:>{_SCALE_WIDTH}} {''.join(content)}".rstrip()


def _legend(level: tuple[str, Score] | None) -> str:
    legend = f"{'':{_SCALE_WIDTH}} {_BEST} best so far  {_TRIAL} trial"
    return f"{legend}  {_REFERENCE} {level[0]}, the best baseline" if level else legend

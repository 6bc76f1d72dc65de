"""Scores side by side as people read them: tasks down, models across, differences below."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from evomerge.cli.drawn import CellColumn, draw_columns, shortened
from evomerge.cli.plain_text import plain
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces.names import short_names
from evomerge.nouns.comparison import Comparison
from evomerge.nouns.objective import Score
from evomerge.nouns.score_text import gain_text, with_error
from evomerge.report.score_rows import ScoreRow

LEGEND = (
    "± is one standard error; differences are taken document by document. Green is better, red "
    "worse, than noise explains."
)
_WIDTH = 20  # of a model's name
_NAME = 34  # of a task's
_NONE = "not scored"


def draw_scores(console: Console, rows: Sequence[ScoreRow], models: Sequence[str]) -> None:
    """Prints scores of every model, then what the others have over the first one."""
    if not rows:
        return
    names = [plain(shortened("  " * row.depth + row.name, _NAME)) for row in rows]
    is_bold = [row.depth == 0 for row in rows]
    heads = [shortened(name, _WIDTH) for name in short_names(tuple(map(_as_name, models)))]
    about = [
        CellColumn("metric", tuple(plain(_metric(row)) for row in rows)),
        CellColumn("n", tuple(plain(f"{row.n:,}") for row in rows)),
    ]
    scores = [
        CellColumn(head, tuple(_score(row, row.scores[model]) for row in rows))
        for model, head in enumerate(heads)
    ]
    draw_columns(console, "scores", names, is_bold, [*about, *scores])
    if len(models) > 1:
        gains = [
            CellColumn(head, tuple(_gain(row, row.gains[model]) for row in rows))
            for model, head in enumerate(heads)
            if model
        ]
        draw_columns(console, f"difference to {heads[0]}", names, is_bold, gains)
    console.print(plain(f"\n{LEGEND}", style="dim"))


def _as_name(model: str) -> ModelName:
    return ModelName(path=model)


def _metric(row: ScoreRow) -> str:
    filters = "" if row.key.filter == "none" else f",{row.key.filter}"
    return f"{row.key.metric}{filters} {'↑' if row.higher_is_better else '↓'}"


def _score(row: ScoreRow, score: Score | None) -> Text:
    if score is None:
        return plain(_NONE, style="dim")
    best: Callable[..., float] = max if row.higher_is_better else min
    values = [one.value for one in row.scores if one is not None]
    is_best = len(values) > 1 and score.value == best(values)
    return plain(with_error(score), style="green" if is_best else "")


def _gain(row: ScoreRow, gain: Comparison | None) -> Text:
    if gain is None:
        return plain("-", style="dim")
    style = ""
    if gain.is_distinguishable:
        style = "green" if gain.difference > 0 else "red"
    turned = Comparison(row.sign * gain.difference, gain.stderr, gain.n)
    return plain(gain_text(turned), style=style)

"""Results of benchmarks/search_quality.py as Markdown tables and one drawing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

CHECKPOINTS = (10, 25, 50, 100)
Row = Mapping[str, Any]
Mean = tuple[float, float | None]  # over seeds, with its standard error

_WIDTH, _PANEL, _TOP, _BOTTOM, _LEFT, _RIGHT = 760, 260, 34, 30, 56, 160
_COLOURS = (  # as many as there are rows: none stands for two
    *("#4e79a7", "#f28e2b", "#e15759", "#59a14f", "#9c755f", "#b07aa1", "#76b7b2", "#edc948"),
    *("#1b1b1b", "#ff66c4", "#8fd400", "#0033cc", "#a0a0a0", "#800020", "#00c2ff", "#5b5b00"),
)
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#555}.title{font-weight:600}"
    ".grid{stroke:#ddd}.level{stroke:#999;stroke-dasharray:4 4}path{fill:none;stroke-width:2}"
)


def tables(rows: Sequence[Row]) -> str:
    """One Markdown table for each space."""
    return "\n".join("\n".join(_table(space, rows)) for space in _spaces(rows))


def _table(space: str, rows: Sequence[Row]) -> Iterator[str]:
    searches = _searches(space, rows)
    dims = next((row["dims"] for found in searches.values() for row in found), "?")
    yield f"**{space}**, {dims} dimensions: validation / holdout, means ± standard error over seeds"
    yield ""
    heads = [f"{n} trials" for n in CHECKPOINTS]
    yield "| | seeds | " + " | ".join(heads) + " | documents | forward passes |"
    yield "|---" * (len(heads) + 4) + "|"
    for name, scores in _baselines(space, rows).items():
        cell = f"{scores['validation']:.3f} / {scores['holdout']:.3f}"
        yield f"| {name} | | {' | '.join([cell, *[''] * (len(heads) - 1)])} | | |"
    for name, found in searches.items():
        cells = [
            f"{_cell(found, n, 'validation')} / {_cell(found, n, 'holdout')}" for n in CHECKPOINTS
        ]
        yield f"| {name} | {len(found)} | {' | '.join(cells)} | {_spent(found)} |"
    yield ""


def _spent(found: Sequence[Row]) -> str:
    """Means over seeds; passes that no trial needed (training) are named apart."""
    documents, passes, own = (
        statistics.mean(row[key] for row in found) for key in ("documents", "passes", "own_passes")
    )
    return f"{documents:,.0f} | {passes:,.0f}" + (f" + {own:,.0f} of its own" if own else "")


def _cell(found: Sequence[Row], n: int, split: str) -> str:
    mean = _mean(found, n, split)
    if mean is None:
        return "-"
    return f"{mean[0]:.3f}" + ("" if mean[1] is None else f" ± {mean[1]:.3f}")


def _mean(found: Sequence[Row], n: int, split: str) -> Mean | None:
    values = [row["best"][str(n)][split] for row in found if split in row["best"].get(str(n), {})]
    if not values:
        return None
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.mean(values), error


def _spaces(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["space"] for row in rows))


def _searches(space: str, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Optimizer -> its searches in a space, each seed once."""
    found: dict[str, dict[int, Row]] = {}
    for row in rows:
        if row["space"] == space and "best" in row:
            title = row["optimizer"].partition("=")[0]
            found.setdefault(title, {})[row["seed"]] = row
    return {name: list(by_seed.values()) for name, by_seed in found.items()}


def _baselines(space: str, rows: Sequence[Row]) -> Mapping[str, Mapping[str, float]]:
    return next((r["scores"] for r in rows if r["space"] == space and "scores" in r), {})


def drawing(rows: Sequence[Row]) -> str:
    """One panel for each space: holdout score of the best so far, by trials; an SVG document."""
    spaces = _spaces(rows)
    names = list(dict.fromkeys(name for space in spaces for name in _searches(space, rows)))
    colours = {name: _COLOURS[index] for index, name in enumerate(names)}
    height = max(len(spaces), 1) * _PANEL
    parts = [
        f'<g transform="translate(0 {index * _PANEL})">{"".join(_panel(space, rows, colours))}</g>'
        for index, space in enumerate(spaces)
    ]
    title = "Holdout score of the best merge so far, by trials, of each optimizer"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{title}"><style>{_STYLE}</style>'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _panel(space: str, rows: Sequence[Row], colours: Mapping[str, str]) -> Iterator[str]:
    searches = _searches(space, rows)
    means = {
        name: [(i, m) for i, n in enumerate(CHECKPOINTS) if (m := _mean(found, n, "holdout"))]
        for name, found in searches.items()
    }
    levels = {name: scores["holdout"] for name, scores in _baselines(space, rows).items()}
    values = [mean for line in means.values() for _, (mean, _) in line] + list(levels.values())
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05

    def x(index: int) -> float:
        return _LEFT + (index + 0.5) / len(CHECKPOINTS) * (_WIDTH - _LEFT - _RIGHT)

    def y(score: float) -> float:
        share = (high + margin - score) / (high - low + 2 * margin)
        return _TOP + share * (_PANEL - _TOP - _BOTTOM)

    dims = next((row["dims"] for found in searches.values() for row in found), "?")
    title = f"{escape(space)}: {dims} dimensions, holdout"
    yield f'<text class="title" x="{_LEFT}" y="20">{title}</text>'
    yield from _axes(x, y, low, high)
    labels = [(y(score), name, "#999") for name, score in levels.items()]
    for score in levels.values():
        yield _across("level", y(score))
    for name, line in means.items():
        if line:
            yield from _line([(x(i), y(m), m, e, y) for i, (m, e) in line], colours[name])
            labels.append((y(line[-1][1][0]), name, colours[name]))
    yield from _names(labels)


def _axes(x: Any, y: Any, low: float, high: float) -> Iterator[str]:
    for tick in range(5):
        score = low + (high - low) * tick / 4
        place = y(score)
        yield _across("grid", place)
        yield f'<text x="{_LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">{score:.2f}</text>'
    for index, n in enumerate(CHECKPOINTS):
        label = f"{n} trials" if not index else str(n)
        yield f'<text x="{x(index):.1f}" y="{_PANEL - 8}" text-anchor="middle">{label}</text>'


def _across(kind: str, y: float) -> str:
    right = _WIDTH - _RIGHT
    return f'<line class="{kind}" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _line(
    points: Sequence[tuple[float, float, float, float | None, Any]], colour: str
) -> Iterator[str]:
    """A line through the means, with one standard error up and down."""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, *_ in points)
    yield f'<path d="{path}" stroke="{colour}"/>'
    for x, y, mean, error, place in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
        if error:
            top, bottom = place(mean + error), place(mean - error)
            yield (
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" '
                f'stroke="{colour}"/>'
            )


def _names(labels: Sequence[tuple[float, str, str]]) -> Iterator[str]:
    """Names beside the ends of their lines, none on top of another."""
    free = float(_TOP)
    for place, name, colour in sorted(labels):
        free = max(free, place + 4)
        yield (
            f'<text x="{_WIDTH - _RIGHT + 6}" y="{free:.1f}" style="fill:{colour}">'
            f"{escape(name)}</text>"
        )
        free += 13

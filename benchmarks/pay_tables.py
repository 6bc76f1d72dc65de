"""Results of benchmarks/does_it_pay.py as Markdown tables and one drawing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

Row = Mapping[str, Any]

_WIDTH, _ROW, _TOP, _BOTTOM, _LEFT, _RIGHT = 760, 16, 34, 44, 190, 30
_GAP = 14  # between families
_SURE = 1.96  # standard errors
_COLOURS = ("#4e79a7", "#f28e2b", "#e15759", "#59a14f", "#9c755f", "#b07aa1", "#76b7b2", "#1b1b1b")
_STYLE = "text{font:12px system-ui,sans-serif;fill:#555}.title{font-weight:600}.grid{stroke:#ddd}"


def tables(rows: Sequence[Row]) -> str:
    """How often it pays, over all searches; then the gains, family by family."""
    budgets = sorted({int(n) for row in rows for n in row["budgets"]})
    lines = [*_shares(rows, budgets), "", *_gains(rows, budgets)]
    return "\n".join(lines)


def _shares(rows: Sequence[Row], budgets: Sequence[int]) -> Iterator[str]:
    yield (
        "| half | optimizer | trials | searches | pays | cannot be told | does not pay | gain "
        "| documents | seconds |"
    )
    yield "|---" * 10 + "|"
    for half in _different(rows, "half"):
        for optimizer in _different(rows, "optimizer"):
            for n in budgets:
                found = [
                    row["budgets"][str(n)]
                    for row in rows
                    if (row["half"], row["optimizer"]) == (half, optimizer)
                    and str(n) in row["budgets"]
                ]
                if found:
                    yield f"| {half} | {_title(optimizer)} | {n} | {_summary(found)} |"


def _summary(found: Sequence[Row]) -> str:
    verdicts = [one["verdict"] for one in found]
    told = (
        f"{verdicts.count(verdict) / len(found):.0%}"
        for verdict in ("pays", "cannot be told", "does not pay")
    )
    documents, seconds = (
        f"{statistics.mean(one[key] for one in found):,.0f}" for key in ("documents", "seconds")
    )
    cells = [str(len(found)), *told, _mean([one["gain"] for one in found]), documents, seconds]
    return " | ".join(cells)


def _gains(rows: Sequence[Row], budgets: Sequence[int]) -> Iterator[str]:
    """Holdout score of the best fixed recipe, and what winners have over it, in points."""
    yield (
        "| family | dimensions | best without a search | its score | optimizer | "
        + " | ".join(f"gain, {n} trials" for n in budgets)
        + " |"
    )
    yield "|---" * (5 + len(budgets)) + "|"
    for family in _different(rows, "family"):
        for optimizer in _different(rows, "optimizer"):
            found = [r for r in rows if (r["family"], r["optimizer"]) == (family, optimizer)]
            if found:
                best = found[0]["best_fixed"]
                score = found[0]["fixed"][best]
                cells = [
                    _mean([r["budgets"][str(n)]["gain"] for r in found if str(n) in r["budgets"]])
                    for n in budgets
                ]
                yield (
                    f"| {family} | {found[0]['dims']} | {best.rsplit('/', 1)[-1]} | {score:.3f} | "
                    f"{_title(optimizer)} | {' | '.join(cells)} |"
                )


def _mean(gains: Sequence[float]) -> str:
    """In points, with the standard error over searches where there are two."""
    if not gains:
        return "-"
    text = f"{100 * statistics.mean(gains):+.1f}"
    if len(gains) == 1:
        return text
    return f"{text} ± {100 * statistics.stdev(gains) / math.sqrt(len(gains)):.1f}"


def _different(rows: Sequence[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def _title(optimizer: str) -> str:
    return optimizer.partition("=")[0]


def drawing(rows: Sequence[Row]) -> str:
    """The gain of each search at its largest budget, with 1.96 standard errors; an SVG document."""
    optimizers = _different(rows, "optimizer")
    colours = {o: _COLOURS[i % len(_COLOURS)] for i, o in enumerate(optimizers)}
    lasts = [max(row["budgets"].items(), key=lambda item: int(item[0]))[1] for row in rows]
    ends = [(one["gain"], _SURE * (one["stderr"] or 0.0)) for one in lasts]
    low = min([0.0, *(gain - reach for gain, reach in ends)])
    high = max([0.01, *(gain + reach for gain, reach in ends)])

    def x(gain: float) -> float:
        return _LEFT + (gain - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    parts, y, family = [], float(_TOP), None
    for row, (gain, reach) in sorted(
        zip(rows, ends, strict=True), key=lambda pair: _place(pair[0], optimizers)
    ):
        if row["family"] != family:
            y += _GAP if family else 0
            family = row["family"]
            name = escape(f"{family} ({row['half']})")
            parts.append(f'<text x="{_LEFT - 10}" y="{y + 4:.0f}" text-anchor="end">{name}</text>')
        colour = colours[row["optimizer"]]
        parts.append(
            f'<line x1="{x(gain - reach):.1f}" x2="{x(gain + reach):.1f}" y1="{y}" y2="{y}" '
            f'stroke="{colour}"/><circle cx="{x(gain):.1f}" cy="{y}" r="3" fill="{colour}"/>'
        )
        y += _ROW
    frame = "".join(_frame(x, low, high, y, colours))
    title = "What the winner has over the best merge without a search, holdout documents"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + _BOTTOM:.0f}" '
        f'role="img" aria-label="{title}"><style>{_STYLE}</style><rect width="100%" '
        f'height="100%" fill="#fff"/><text class="title" x="10" y="18">{title}</text>'
        f"{frame}{''.join(parts)}</svg>\n"
    )


def _place(row: Row, optimizers: Sequence[str]) -> tuple[bool, str, int, int]:
    is_report = row["half"] == "report"
    return is_report, row["family"], optimizers.index(row["optimizer"]), row["seed"]


def _frame(
    x: Any, low: float, high: float, bottom: float, colours: Mapping[str, str]
) -> Iterator[str]:
    """Lines at whole steps of the gain, and the optimizers' names."""
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / s <= 8)
    for tick in range(math.ceil(low / step), math.floor(high / step) + 1):
        place = f"{x(tick * step):.1f}"
        width = 2 if tick == 0 else 1
        yield (
            f'<line class="grid" x1="{place}" x2="{place}" y1="{_TOP - 10}" y2="{bottom}" '
            f'stroke-width="{width}"/><text x="{place}" y="{bottom + 14}" text-anchor="middle">'
            f"{100 * tick * step:+.0f}</text>"
        )
    for index, (name, colour) in enumerate(colours.items()):
        yield (
            f'<text x="{_LEFT + 90 * index}" y="{bottom + 34}" style="fill:{colour}">'
            f"{escape(_title(name))}</text>"
        )

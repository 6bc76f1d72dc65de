"""The convergence curve as inline SVG, coloured by the page's own variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from evomerge.nouns.objective import Score
from evomerge.nouns.score_text import number, score_text
from evomerge.report.curve import Curve

_WIDTH, _HEIGHT = 760, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 150, 14, 34
_LABEL_GAP = 14  # between the names of levels that lie close together
_N_TICKS = 5


@dataclass(frozen=True)
class _Scale:
    """From trials and scores to places in the drawing."""

    n_trials: int
    low: float
    high: float

    def x(self, index: int) -> float:
        return _LEFT + (index + 0.5) / self.n_trials * (_WIDTH - _LEFT - _RIGHT)

    def y(self, score: float) -> float:
        share = (self.high - score) / (self.high - self.low)
        return _TOP + share * (_HEIGHT - _TOP - _BOTTOM)


def curve_svg(curve: Curve) -> str:
    """The drawing; an empty text before the first trial of the optimizer."""
    if not curve.trial_ids:
        return ""
    low, high = curve.bounds
    margin = max((high - low) * 0.05 or 0.5, abs(high) * 1e-9)  # wide enough to tell apart
    scale = _Scale(len(curve.trial_ids), low - margin, high + margin)
    parts = [
        *_axes(curve, scale),
        *_levels(curve, scale),
        *_dots(curve, scale),
        _best(curve, scale),
    ]
    title = f"{escape(curve.label)} of each trial, and the best so far"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        + "".join(parts)
        + "</svg>"
    )


def _axes(curve: Curve, scale: _Scale) -> Iterator[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for tick in range(_N_TICKS):
        score = scale.low + (scale.high - scale.low) * tick / (_N_TICKS - 1)
        y = scale.y(score)
        yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(score)}</text>'
    last = len(curve.trial_ids) - 1
    for index in sorted({0, last // 2, last}):
        x, trial_id = scale.x(index), curve.trial_ids[index]
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{trial_id}</text>'
    middle = (_LEFT + right) / 2
    yield f'<text x="{middle}" y="{_HEIGHT - 2}" text-anchor="middle">trial</text>'


def _levels(curve: Curve, scale: _Scale) -> Iterator[str]:
    right = _WIDTH - _RIGHT
    free = float(_TOP)
    for name, score in sorted(curve.levels.items(), key=lambda level: -level[1].value):
        y = scale.y(score.value)
        free = max(free, y + 4)
        yield f'<line class="level" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield (
            f'<text class="name" x="{right + 6}" y="{free:.1f}">{escape(_short(name))}'
            f"<title>{escape(name)}: {score_text(score)}</title></text>"
        )
        free += _LABEL_GAP


def _dots(curve: Curve, scale: _Scale) -> Iterator[str]:
    for index, score in enumerate(curve.scores):
        x, trial_id = scale.x(index), curve.trial_ids[index]
        if score is None:
            y = _HEIGHT - _BOTTOM
            yield (
                f'<text class="failed" x="{x:.1f}" y="{y}" text-anchor="middle">&times;'
                f"<title>trial {trial_id} failed</title></text>"
            )
        else:
            yield from _error_bar(score, x, scale)
            yield (
                f'<circle class="trial" cx="{x:.1f}" cy="{scale.y(score.value):.1f}" r="2.6">'
                f"<title>trial {trial_id}: {score_text(score)}</title></circle>"
            )


def _error_bar(score: Score, x: float, scale: _Scale) -> Iterator[str]:
    """One standard error up and down, as far as the drawing goes."""
    if score.stderr is None:
        return
    low = max(score.value - score.stderr, scale.low)
    high = min(score.value + score.stderr, scale.high)
    yield (
        f'<line class="error" x1="{x:.1f}" x2="{x:.1f}" '
        f'y1="{scale.y(low):.1f}" y2="{scale.y(high):.1f}"/>'
    )


def _best(curve: Curve, scale: _Scale) -> str:
    known = [(scale.x(i), scale.y(b)) for i, b in enumerate(curve.best) if b is not None]
    if not known:
        return ""
    steps = [f"M{known[0][0]:.1f} {known[0][1]:.1f}"]
    steps += [f"H{x:.1f}V{y:.1f}" for x, y in known[1:]]
    return f'<path class="best" d="{"".join(steps)}"/>'


def _short(name: str) -> str:
    return name if len(name) <= 22 else name[:21] + "…"

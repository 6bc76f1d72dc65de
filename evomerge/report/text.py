"""Numbers as people read them."""

from __future__ import annotations

from evomerge.objective import Score

_LARGE = 1000.0  # from here on digits after the point say nothing


def number(value: float) -> str:
    """``0.8125``; ``-1.519e+11`` where four digits after the point would be noise."""
    return f"{value:.4f}" if abs(value) < _LARGE else f"{value:.4g}"


def score_text(score: Score) -> str:
    """``0.8125 ± 0.0201``."""
    return number(score.value) + ("" if score.stderr is None else f" ± {number(score.stderr)}")

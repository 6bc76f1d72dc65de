"""How scores and their standard errors are printed and written; nothing is computed here."""

from __future__ import annotations

from typing import Any

from evomerge.nouns.comparison import Comparison
from evomerge.nouns.objective import Score

_LARGE = 1000.0  # from here on digits after the point say nothing


def number(value: float) -> str:
    """``0.8125``; ``-1.519e+11`` where four digits after the point would be noise."""
    return f"{value:.4f}" if abs(value) < _LARGE else f"{value:.4g}"


def score_text(score: Score) -> str:
    """``0.8125 ± 0.0201 (n=300)``: a score that stands alone."""
    return f"{with_error(score)} (n={score.n})"


def with_error(score: Score) -> str:
    """``0.8125 ± 0.0201``: a score whose n stands elsewhere; ``± ?`` where no error is known."""
    return f"{number(score.value)} ± {_error(score.stderr)}"


def gain_text(gain: Comparison) -> str:
    """``+0.0410 ± 0.0133``: a difference whose n stands elsewhere."""
    return f"{with_sign(gain.difference)} ± {_error(gain.stderr)}"


def with_sign(difference: float) -> str:
    """``+0.0410``: a difference without its error."""
    return f"{'+' if difference > 0 else ''}{number(difference)}"


def score_content(score: Score) -> dict[str, Any]:
    """A score as files hold it."""
    return {"score": round(score.value, 6), "stderr": rounded(score.stderr), "n": score.n}


def rounded(value: float | None) -> float | None:
    """As many digits as files hold; nothing where there is no number."""
    return None if value is None else round(value, 6)


def _error(stderr: float | None) -> str:
    return "?" if stderr is None else number(stderr)

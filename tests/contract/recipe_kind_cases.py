"""One recipe of every kind, as a file of mergekit has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Models = Sequence[str]  # a base and two tuned models, of two layers


def merge(models: Models) -> str:
    """TIES with numbers over depth."""
    base, one, other = models
    return f"""
merge_method: ties
base_model: {base}
models:
- model: {one}
  parameters: {{weight: [0.5, 0.9], density: 0.7}}
- model: {other}
  parameters: {{weight: 0.4}}
dtype: float32
"""


CASES: dict[str, Callable[[Models], str]] = {"merge": merge}

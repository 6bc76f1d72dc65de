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


def multi(models: Models) -> str:
    """A stage that draws at random, one that nobody needs, one built on the first, and both."""
    base, one, other = models
    return f"""
name: dropped
merge_method: dare_linear
base_model: {base}
models:
- model: {one}
  parameters: {{weight: 0.6, density: 0.5}}
dtype: bfloat16
---
name: unused
merge_method: linear
models:
- model: no/model
  parameters: {{weight: 1}}
---
name: halfway
merge_method: slerp
base_model: dropped
models:
- model: {other}
parameters: {{t: 0.25}}
dtype: float32
out_dtype: bfloat16
---
merge_method: task_arithmetic
base_model: {base}
models:
- model: halfway
  parameters: {{weight: 0.7}}
- model: dropped
  parameters: {{weight: [0.1, 0.4]}}
dtype: float32
"""


def mixture(models: Models) -> str:
    """Two models and a merge, and a task with weights of its own."""
    base, one, other = models
    return f"""
mixture:
- model: {one}
  weight: 0.5
- model: {other}
  weight: 0.2
- recipe:
    merge_method: linear
    models:
    - model: {base}
      parameters: {{weight: 0.5}}
    - model: {one}
      parameters: {{weight: 0.5}}
    dtype: float32
  weight: 0.3
mean: geometric
tasks: {{some_task: [0, 1, 0]}}
"""


CASES: dict[str, Callable[[Models], str]] = {"merge": merge, "multi": multi, "mixture": mixture}

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


def moe(models: Models) -> str:
    """A stage that draws at random is the base and an expert, beside a merge and a model."""
    base, one, other = models
    return f"""
name: first
merge_method: dare_linear
base_model: {base}
models:
- model: {one}
  parameters: {{weight: 0.6, density: 0.5}}
dtype: float32
---
name: second
merge_method: slerp
base_model: {one}
models:
- model: {other}
parameters: {{t: 0.25}}
dtype: float32
out_dtype: bfloat16
---
base_model: first
experts:
- source_model: first
  positive_prompts: [the quick brown fox, a lazy dog]
- source_model: second
  positive_prompts: [one two three]
  negative_prompts: [zebras jump]
- source_model: {other}
  positive_prompts: [other animals]
  residual_scale: 0.9
gate_mode: hidden
dtype: float32
experts_per_token: 2
"""


def transplant(models: Models) -> str:
    """A merge that gets the tokens of a model that it does not merge."""
    base, one, other = models
    return f"""
name: halfway
merge_method: slerp
base_model: {base}
models:
- model: {one}
parameters: {{t: 0.25}}
dtype: float32
---
transplant:
  model: halfway
  tokenizer_source: {other}
  approximation_method: subword
  subword_method: first_last
  k: 8
  magikarp: false
"""


CASES: dict[str, Callable[[Models], str]] = {
    "merge": merge,
    "mixture": mixture,
    "moe": moe,
    "multi": multi,
    "transplant": transplant,
}

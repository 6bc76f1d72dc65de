"""Memory of the base that reads the prompts of a mixture's gates is told where it is merged."""

from __future__ import annotations

import pytest

from evomerge.checks.context import CheckContext
from evomerge.checks.search_plan import storage_of
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from evomerge.models.shared_layers import describe
from tests.preflight.test_paths import facts

GENOME = """
genome:
  models: [a, b]
  merge_method: linear
  space:
    name: moe
    gate_mode: {mode}
    experts:
    - {first}
    - {{model: b, positive_prompts: [write]}}
    - {{models: [b, a], positive_prompts: [draw]}}
tasks: [x]
execution: {{workers: 2}}
"""
MERGED = "{models: [a, b], positive_prompts: [solve]}"
AS_IT_IS = "{model: a, positive_prompts: [solve]}"


@pytest.mark.parametrize(
    ("mode", "first", "is_told"),
    [
        ("hidden", MERGED, True),
        ("hidden_last", MERGED, True),
        ("hidden", AS_IT_IS, False),
        ("cheap_embed", MERGED, False),
        ("random", MERGED, False),
    ],
)
def test_a_merged_base_that_reads_prompts_is_in_memory_beside_the_mixture(mode, first, is_told):
    models = facts("a"), facts("b")
    genome = validate_genome(parse_yaml(GENOME.format(mode=mode, first=first), "g.yml"))
    space = merge_space_for(genome.genome)(genome.genome, describe(models), "float32")
    (memory, *_) = storage_of(CheckContext(genome, models=models, merge_space=space))
    needs = {need.what: need.n_bytes for need in memory.needs}
    n_bytes = sum(tensor.n_bytes for tensor in models[0].tensors.values())  # of bfloat16
    found = [
        needs.get(f"the {one}")
        for one in ("base of a mixture, as it is merged", "same while it reads prompts")
    ]
    assert found == ([2 * 2 * n_bytes, 2 * n_bytes] if is_told else [None, None])

"""What a fine-tune learned, added to another model: target + w (tuned - base)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evomerge.genome.merge_block import MergeDefinition
from evomerge.merge_spaces import merge_space_for
from evomerge.merging.resident import ResidentMerger
from evomerge.models.architecture import Architecture
from tests.tiny_models import tiny_family


@pytest.mark.parametrize("w", [0.7, 1.3])
def test_a_fixed_target_and_a_searched_task_vector_add_what_was_learned(tmp_path: Path, w: float):
    base, target, tuned = tiny_family(tmp_path)
    definition = MergeDefinition.model_validate(
        {
            "models": [
                {"model": str(target), "parameters": {"weight": 1}},
                {"model": str(tuned), "parameters": {"weight": {"range": [0, 1.5]}}},
            ],
            "base_model": str(base),
            "merge_method": "task_arithmetic",
        }
    )
    tensors = ("model.layers.{layer}.mlp.up_proj.weight",)
    architecture = Architecture("Llama", 2, ("model.embed_tokens.weight",), tensors, (), ())
    space = merge_space_for(definition)(definition, architecture, "float32")
    (name,) = (parameter.name for parameter in space.space)
    merged = ResidentMerger().merge(space.recipe({name: w})).module.state_dict()
    files = {f: load_file(f / "model.safetensors") for f in (base, target, tuned)}
    for tensor, held in merged.items():
        if tensor in files[base]:
            b, t, f = (files[folder][tensor].double() for folder in (base, target, tuned))
            torch.testing.assert_close(held.double(), t + w * (f - b), rtol=0, atol=1e-6)

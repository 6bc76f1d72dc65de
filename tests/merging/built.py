"""What mergekit itself builds from a recipe, to compare the resident merge with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from evomerge.merging.live_model import LiveModel

SEED = 7


def build_in_process(config: Mapping[str, Any], out: Path, lora_cache: Path | None = None) -> Path:
    """``mergekit-yaml --random-seed 7`` without the seconds a new interpreter takes."""
    LoaderCache().loaders.clear()
    run_merge(
        MergeConfiguration.model_validate(dict(config)),
        str(out),
        MergeOptions(
            random_seed=SEED,
            quiet=True,
            lora_merge_cache=str(lora_cache) if lora_cache else None,
            write_model_card=False,  # it asks the Hub about every model
        ),
    )
    return out


def load(folder: Path) -> PreTrainedModel:
    """The built folder as transformers loads it by default."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder)
    return model.eval()


def assert_equals_folder(live: LiveModel, folder: Path) -> None:
    """Every tensor and the logits of the live model are those of the built folder."""
    written = load_file(folder / "model.safetensors")
    built = load(folder)
    held = live.module.state_dict()
    assert live.module.dtype == built.dtype
    assert held.keys() == built.state_dict().keys()
    for name, tensor in built.state_dict().items():
        assert torch.equal(held[name], tensor), name
    for name in written.keys() & held.keys():
        assert torch.equal(held[name], written[name].to(held[name].dtype)), name
    tokens = torch.arange(4, 24)[None]
    with torch.no_grad():
        assert torch.equal(live.module(tokens).logits, built(tokens).logits)
    assert live.module.generation_config.to_dict() == built.generation_config.to_dict()

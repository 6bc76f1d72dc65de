"""LoRA adapters of a tiny model, as PEFT writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.suite_seed import of_suite

WEIGHTS = "adapter_model.safetensors"


def lora_expert(
    folder: Path,
    base: Path,
    seed: int,
    *,
    dtype: str = "float32",
    std: float = 0.5,
    **settings: Any,
) -> Path:
    """Writes an adapter with random A and B.

    Args:
        folder: Where to.
        base: The model it is for.
        seed: Of its numbers.
        dtype: In which it is stored.
        std: Standard deviation of A and B.
        settings: Fields of ``LoraConfig``.
    """
    model = AutoModelForCausalLM.from_pretrained(base)
    given = {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "up_proj"], **settings}
    get_peft_model(model, LoraConfig(**given)).save_pretrained(folder)
    tensors = load_file(folder / WEIGHTS)
    generator = torch.Generator().manual_seed(of_suite(seed))
    drawn = {
        name: (std * torch.randn(tensor.shape, generator=generator)).to(getattr(torch, dtype))
        for name, tensor in sorted(tensors.items())
    }
    save_file(drawn, folder / WEIGHTS, {"format": "pt"})
    return folder

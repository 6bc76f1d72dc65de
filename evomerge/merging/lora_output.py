"""An adapter made of a merge: what it holds, how well, and its folder as PEFT reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from evomerge.foundations.creating import ADAPTER, FIT, put_folder, refuse_occupied_folder
from evomerge.foundations.files import write_atomic, writing
from evomerge.foundations.scratch import scratch
from evomerge.genome.model_names import ModelName
from evomerge.merging.factors import A_SUFFIX, B_SUFFIX, CONFIG, PREFIX
from evomerge.models.inspect import ADAPTER_WEIGHTS


@dataclass(frozen=True)
class TensorFit:
    """How much of the change of one tensor an adapter holds.

    Attributes:
        name: Of the tensor, in the model.
        change: Frobenius norm of the change.
        missing: The same of what the adapter lacks of it.
    """

    name: str
    change: float
    missing: float

    @property
    def relative(self) -> float:
        """Share of the change that is missing, in [0, 1]."""
        return self.missing / self.change if self.change else 0.0


@dataclass(frozen=True)
class LoraOutput:
    """An adapter, and how well it does.

    Attributes:
        rank: Of every module.
        base: What it is an adapter of; has no adapter itself.
        factors: Module -> A of shape (rank, in) and B of shape (out, rank), float32.
        tensors: The fit of every linear layer that changes.
        left_out: That of tensors which no LoRA of linear layers can change: nothing.
    """

    rank: int
    base: ModelName
    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    tensors: tuple[TensorFit, ...]
    left_out: tuple[TensorFit, ...]

    @cached_property
    def total(self) -> TensorFit:
        """All tensors as one."""
        every = (*self.tensors, *self.left_out)
        change = math.hypot(*(one.change for one in every))
        return TensorFit("all", change, math.hypot(*(one.missing for one in every)))


def write_lora(lora: LoraOutput, folder: Path, *, force: bool = False) -> None:
    """Writes an adapter as PEFT does: all of it, or nothing.

    Args:
        lora: The adapter.
        folder: Where to.
        force: Whether an adapter that was written there is replaced.

    Raises:
        OccupiedError: something is there.
        LostFileError: the disk is full, or the folder cannot be written.
    """
    refuse_occupied_folder(folder, ADAPTER, force=force)
    tensors = {}
    for module, (a, b) in lora.factors.items():
        tensors[f"{PREFIX}{module}{A_SUFFIX}"] = a.contiguous()
        tensors[f"{PREFIX}{module}{B_SUFFIX}"] = b.contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": lora.base.path,
        "revision": lora.base.revision,
        "r": lora.rank,
        "lora_alpha": lora.rank,  # so that B A is the change itself
        "target_modules": sorted({module.rpartition(".")[2] for module in lora.factors}),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch(folder.parent) as temporary:
            made = temporary / folder.name
            made.mkdir()
            write_atomic(made / CONFIG, f"{json.dumps(config, indent=2)}\n")
            write_atomic(made / FIT, f"{json.dumps(_fit(lora), indent=2)}\n")
            write_atomic(made / ADAPTER_WEIGHTS, save(tensors, {"format": "pt"}))
            put_folder(made, folder, ADAPTER, force=force)


def _fit(lora: LoraOutput) -> dict[str, Any]:
    """How well it does, for programs."""
    return {
        "rank": lora.rank,
        "relative_error": lora.total.relative,
        "tensors": {one.name: one.relative for one in lora.tensors},
        "left_out": {one.name: one.change / lora.total.change for one in lora.left_out},
    }

"""Tensors of single models, kept ready on the device of the live model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evomerge.foundations.deadline import Deadline
from evomerge.merging import resident_layers
from evomerge.merging.resident_layers import ResidentTensors, Wanted


def test_a_source_in_main_memory_is_scaled_for_a_model_on_a_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch writes no product onto another device; meta stands for one."""
    written: list[torch.device] = []
    merged = SimpleNamespace(write=lambda home: written.append(home.device) or True)
    monkeypatch.setattr(resident_layers, "ByMergekit", lambda origin: merged)
    held = {"model": (torch.ones(3), None)}
    planned: Any = SimpleNamespace(
        name="weight", out_dtype=None, inputs=SimpleNamespace(stored=lambda: held)
    )
    tensors = ResidentTensors(torch.device("meta"), torch.float32)
    ((found,),) = tensors.rows([[Wanted(planned, 2.0)]], Deadline())
    assert found is not None
    assert written == [found.device] == [torch.device("meta")]

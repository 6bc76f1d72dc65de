"""Whether two live models are the same: suspected by a few entries of each tensor, shown by all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from evomerge.merging.live_model import LiveModel

_ENTRIES = 16  # of each parameter; evenly spread


def mark_of(model: LiveModel) -> str:
    """A digest that equal models share; others may share it, too.

    It is of settings, tokenizer and some entries of every parameter, a few milliseconds; of a
    model that has an identity it is that.
    """
    if model.identity:
        return model.identity
    module: Any = model.module
    found = hashlib.sha256(module.config.to_json_string(use_diff=False).encode())
    found.update(str(module.generation_config).encode())
    found.update(str(id(model.tokenizer)).encode())
    some = [_some(one) for _, one in module.named_parameters(remove_duplicate=False)]
    for part in _gathered(some):
        found.update(_bytes(part))
    return found.hexdigest()


def weights_of(model: LiveModel) -> str:
    """A digest of every entry of every tensor, names and dtypes among it."""
    found = hashlib.sha256()
    for name, tensor in model.module.state_dict().items():
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(_bytes(tensor.reshape(-1)))
    return found.hexdigest()


def _some(tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.detach().reshape(-1)
    return flat[:: max(flat.numel() // _ENTRIES, 1)]


def _gathered(tensors: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    """One tensor per dtype, so that a device is waited for once."""
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        yield torch.cat([tensor for tensor in tensors if tensor.dtype == dtype])


def _bytes(flat: torch.Tensor) -> memoryview:
    return flat.detach().cpu().contiguous().view(torch.uint8).numpy().data

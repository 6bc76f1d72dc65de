"""What of a machine decides the bits of its arithmetic, beside the versions of the packages."""

from __future__ import annotations

import torch


def machine_of(device: str) -> dict[str, str]:
    """The instructions the CPU is asked for; the GPU's name, where the device is one.

    Args:
        device: Where merges are computed and models run.
    """
    found = {"cpu": torch.backends.cpu.get_cpu_capability()}
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def is_there(device: str) -> bool:
    """Whether torch can compute on a device here."""
    kind, index = torch.device(device).type, torch.device(device).index or 0
    if kind == "cpu":
        return True
    if kind == "mps":
        return torch.backends.mps.is_available()
    module = getattr(torch, kind, None)  # none of a kind that takes a package of its own
    return module is not None and index < module.device_count()

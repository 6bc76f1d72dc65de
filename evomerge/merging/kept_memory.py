"""Memory for work kept between merges: one purse for casts, ranks, draws and task vectors."""

from __future__ import annotations

import weakref

import torch

from evomerge.foundations.machine import memory

CAP = 8 << 30  # bytes


class MemoryBudget:
    """Grants memory or refuses it; what is refused is computed anew in every merge.

    Args:
        n_bytes: All there is; None: an eighth of what is free on the device now, at most
            8 GiB, or this worker's part of it.
        device: Where the memory is.
        n_workers: Among whom what is free is divided.

    Attributes:
        left: Bytes that may still be granted.
    """

    def __init__(self, n_bytes: int | None, device: torch.device, n_workers: int = 1) -> None:
        if n_bytes is None:
            n_bytes = min(free_bytes(device) // 8, CAP) // n_workers
        self.left = n_bytes

    def grants(self, owner: object, n_bytes: int, *, passing: int = 0) -> bool:
        """Takes bytes until ``owner`` is collected, if there are as many.

        Args:
            owner: Who keeps them.
            n_bytes: To keep.
            passing: Further bytes that must be free for a moment, to compute what is kept.
        """
        if n_bytes + passing > self.left:
            return False
        self.left -= n_bytes
        weakref.finalize(owner, self._give_back, n_bytes).atexit = False
        return True

    def _give_back(self, n_bytes: int) -> None:
        self.left += n_bytes


def free_bytes(device: torch.device) -> int:
    """What nobody uses now of the device's memory; files in the system's cache are free."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    return memory().free

"""Brings tensors from their files to a GPU while it computes something else."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Prefetched:
    """Tensors on a GPU, or on their way.

    Attributes:
        tensors: By the ``id`` of what was sent.
        arrived: Happens when all of them are there.
    """

    tensors: dict[int, torch.Tensor]
    arrived: torch.cuda.Event

    def received(self) -> dict[int, torch.Tensor]:
        """The tensors; what is computed from now on waits for them, this call does not."""
        current = torch.cuda.current_stream(next(iter(self.tensors.values())).device)
        current.wait_event(self.arrived)
        for tensor in self.tensors.values():
            tensor.record_stream(current)  # their memory is used there, whoever frees them
        return self.tensors


class Prefetcher:
    """Reads tensors into pinned memory in a thread, and copies them on a stream, of its own.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")

    def send(self, tensors: Sequence[torch.Tensor]) -> Future[Prefetched]:
        """Begins to bring them; at least one."""
        return self._thread.submit(self._carried, tuple(tensors))

    def _carried(self, tensors: Sequence[torch.Tensor]) -> Prefetched:
        with torch.cuda.stream(self._stream):
            copies = {
                id(tensor): tensor.pin_memory().to(self._device, non_blocking=True)
                for tensor in tensors
            }
            return Prefetched(copies, self._stream.record_event())

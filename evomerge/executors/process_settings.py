"""What a genome says of worker processes: which GPUs each of them is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from evomerge.executors.base import ExecutorSettings
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import Problem
from evomerge.genome.block import Whole, fits
from evomerge.genome.misfit import MisfitError


class ProcessSettings(ExecutorSettings):
    """Slots: the GPUs of each worker."""

    devices: (
        Literal["auto"] | Annotated[list[Annotated[Whole, Field(ge=0)]], Field(min_length=1)] | None
    ) = Field(
        None,
        description="GPUs for the workers, by their numbers on this machine, or `auto`: the first "
        "ones. Each worker sees its own alone. Absent: all workers share one device.",
    )
    devices_per_worker: Annotated[Whole, Field(ge=1)] = Field(
        1,
        description="GPUs of each worker; more than one is refused so far: no engine spreads a "
        "model over several.",
    )

    @fits("devices")
    def _once_each(self) -> Iterator[MisfitError]:
        numbers = self.devices if isinstance(self.devices, list) else []
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        if twice:
            what = f"stand twice: {', '.join(map(str, twice))}; a GPU belongs to one worker"
            yield MisfitError(what, "devices")

    @fits("devices", "devices_per_worker")
    def _of_devices(self) -> Iterator[MisfitError]:
        if self.devices is None and "devices_per_worker" in self.model_fields_set:
            fix = "Add devices: auto."
            yield MisfitError("no devices are given to workers", "devices_per_worker", fix=fix)

    @property
    def device(self) -> str | None:
        """See :attr:`ExecutorSettings.device`: the first of those that a worker sees."""
        return None if self.devices is None else "cuda"

    def sharing(self, n_workers: int) -> int:
        """See :meth:`ExecutorSettings.sharing`."""
        return n_workers if self.devices is None else 1

    def slots(self, n_workers: int, gpus: Sequence[str]) -> tuple[str, ...]:
        """What each worker sees, as ``CUDA_VISIBLE_DEVICES`` has it; empty where all see all.

        Args:
            n_workers: How many.
            gpus: Those of this machine, see :func:`machine.visible_gpus`.
        """
        if self.devices is None:
            return ()
        each = self.devices_per_worker
        numbers = range(n_workers * each) if self.devices == "auto" else self.devices
        names = [gpus[number] for number in numbers]
        return tuple(",".join(names[i * each : (i + 1) * each]) for i in range(n_workers))

    def misfits_of(self, n_workers: int, gpus: Sequence[str]) -> Iterator[Problem]:
        """Why there can be no such slots."""
        if self.devices is None:
            return
        if not gpus:
            fix = "Leave it out: workers then share the cores of this machine."
            yield Problem(f"this machine has no GPU, got {self.devices!r}", "devices", fix)
            return
        each, n_needed = self.devices_per_worker, n_workers * self.devices_per_worker
        wanted = f"{counted(n_workers, 'worker')} with {counted(each, 'GPU')} each"
        if self.devices == "auto":
            if n_needed > len(gpus):
                what = f"{wanted} take {n_needed}, this machine has {len(gpus)}"
                yield Problem(what, "workers", f"Use execution.workers: {len(gpus) // each or 1}.")
            return
        absent = [number for number in self.devices if number >= len(gpus)]
        if absent:
            what = f"got {self.devices}, this machine has GPUs 0 to {len(gpus) - 1}"
            yield Problem(what, "devices")
        if len(self.devices) != n_needed:
            what = f"{wanted} take {n_needed}, got {counted(len(self.devices), 'device')}"
            n_fitting = len(self.devices) // each
            fix = f"Use execution.workers: {n_fitting}." if n_fitting else ""
            yield Problem(what, "workers", fix)

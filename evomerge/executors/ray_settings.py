"""What a genome says of Ray: which cluster, and what of it each worker is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from evomerge.executors.base import ExecutorSettings
from evomerge.foundations.errors import Problem
from evomerge.genome.block import Number, fits
from evomerge.genome.misfit import MisfitError

_GIB = 1 << 30


class RaySettings(ExecutorSettings):
    """What each worker is given, and of which cluster."""

    address: str = Field(
        "auto",
        description="`auto`: the cluster that runs here (`RAY_ADDRESS`, or a node on this "
        "machine); `local`: one of this run's own on this machine; else `HOST:PORT`, which takes "
        "`--allow-code` unless `RAY_ADDRESS` says the same.",
    )
    num_cpus: Annotated[Number, Field(gt=0)] = Field(
        1, description="Cores of each worker; its arithmetic takes so many threads."
    )
    num_gpus: Annotated[Number, Field(ge=0)] = Field(
        0, description="GPUs of each worker, a part of one too; with any, models are on `cuda`."
    )
    memory: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="Main memory of each worker in GiB, which Ray reserves."
    )
    wait: Annotated[Number, Field(ge=0)] = Field(
        10,
        description="Seconds to wait for nodes that can hold all workers; what other jobs hold of "
        "them is waited for without a limit, and told.",
    )
    runtime_env: dict[str, Any] = Field(
        default_factory=dict,
        description="Ray's `runtime_env`: code and tasks that nodes lack, e.g. `working_dir` or "
        "`py_modules`; with `--allow-code` alone.",
    )

    copies: str | None = Field(
        None,
        description="A folder of yours on a disk of each node, e.g. `/scratch/$USER/models` or "
        "`$SLURM_TMPDIR`: model folders are copied there once, checked byte by byte, and read from "
        "there. Absent: read where they are.",
    )

    @fits("copies")
    def _whole_path(self) -> Iterator[MisfitError]:
        if self.copies is not None and not self.copies.startswith(("/", "$")):
            what = f"got {self.copies!r}, expected a whole path, or a variable that holds one"
            yield MisfitError(what, "copies")

    @fits("address")
    def _runs_on_a_node(self) -> Iterator[MisfitError]:
        if "://" in self.address:
            yield MisfitError(
                f"got {self.address!r}, expected auto, local or HOST:PORT",
                "address",
                fix="Start the run on a node of the cluster: Ray Client has no streams.",
            )

    @fits("num_gpus")
    def _whole_gpus(self) -> Iterator[MisfitError]:
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            what = f"got {self.num_gpus:g}, expected a part of one GPU or a whole number"
            yield MisfitError(what, "num_gpus")

    @property
    def copies_in(self) -> str | None:
        """See :attr:`ExecutorSettings.copies_in`."""
        return self.copies

    def trusted(self) -> Iterator[Problem]:
        """See :meth:`ExecutorSettings.trusted`: what workers send is unpickled here."""
        allow = "Add --allow-code if you trust it"
        if self.runtime_env:
            what = "would bring code to the workers, which needs permission"
            yield Problem(what, "runtime_env", f"{allow}.")
        if self.address not in ("auto", "local", os.environ.get("RAY_ADDRESS")):
            yield Problem(
                f"got {self.address!r}, a cluster that could run code here, which needs permission",
                "address",
                f"{allow}, or name it in RAY_ADDRESS and use address: auto.",
            )

    @property
    def device(self) -> str:
        """See :attr:`ExecutorSettings.device`: a worker sees its own GPUs alone."""
        return "cuda" if self.num_gpus else "cpu"

    def sharing(self, n_workers: int) -> int:
        """See :meth:`ExecutorSettings.sharing`: as many as a part of a GPU has others."""
        return min(n_workers, max(int(1 / self.num_gpus), 1)) if self.num_gpus else n_workers

    def threads(self, n_workers: int) -> int:
        """See :meth:`ExecutorSettings.threads`: as many as cores were asked for."""
        return max(int(self.num_cpus), 1)

    @property
    def resources(self) -> dict[str, float]:
        """What Ray reserves for one worker, by its names."""
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory or 0}
        wanted["memory"] *= _GIB
        return {name: amount for name, amount in wanted.items() if amount}

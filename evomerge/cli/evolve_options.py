"""Options of mergekit-evolve that say where it works, taken by name: what each means here.

Source: mergekit 0.1.5, `mergekit.scripts.evolve`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True)
class EvolveOptions:
    """What was given of them.

    Attributes:
        strategy: How trials are scheduled; None: not said.
        num_gpus: GPUs of all workers; None: not said.
        storage_path: Where it keeps merged models and the best recipe.
        idle: Names of the others, which say how it merges and loads.
    """

    strategy: str | None = None
    num_gpus: int | None = None
    storage_path: Path | None = None
    idle: tuple[str, ...] = ()

    @property
    def overrides(self) -> tuple[str, ...]:
        """The same as ``--set`` takes it: a GPU for each worker, of this machine or a cluster."""
        if self.strategy is None and self.num_gpus is None:
            return ()
        if self.strategy == "serial":
            return ("execution={executor: serial, workers: 1}",)
        if not self.num_gpus:
            return ()
        if "RAY_ADDRESS" in os.environ:
            return (f"execution={{executor: ray, workers: {self.num_gpus}, num_gpus: 1}}",)
        return (f"execution={{workers: {self.num_gpus}, devices: auto}}",)

    @property
    def notes(self) -> Iterator[str]:
        """One line for each that has no meaning here, or another one."""
        if self.overrides:
            yield f"as mergekit-evolve's options have it: --set '{self.overrides[0]}'"
        elif self.strategy is not None:
            yield (
                f"--strategy {self.strategy}: trials run as `execution:` says; for N workers add "
                "--num-gpus N"
            )
        if self.idle:
            yield (
                f"{', '.join(self.idle)}: of no meaning here, where every merge is made in memory "
                "and nothing is converted before"
            )


_IDLE = ("--in-memory/--no-in-memory", "--merge-cuda/--no-merge-cuda", "--reshard/--no-reshard")


def evolve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them, unseen in help; passed as ``evolve``."""
    for flags in _IDLE:
        command = click.option(flags, default=None, hidden=True)(command)

    @click.option("--strategy", type=click.Choice(["pool", "buffered", "serial"]), hidden=True)
    @click.option("--num-gpus", type=click.IntRange(min=0), hidden=True)
    @click.option("--storage-path", type=click.Path(path_type=Path, file_okay=False), hidden=True)
    @wraps(command)
    def with_evolve(
        *args: Any,
        strategy: str | None,
        num_gpus: int | None,
        storage_path: Path | None,
        **options: Any,
    ) -> Any:
        given = []
        for flags in _IDLE:
            yes, no = flags.split("/")
            value = options.pop(yes[2:].replace("-", "_"))
            given += [] if value is None else [yes if value else no]
        evolve = EvolveOptions(strategy, num_gpus, storage_path, tuple(given))
        return command(*args, evolve=evolve, **options)

    return with_evolve

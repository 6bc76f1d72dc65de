"""Options of mergekit-evolve, taken by name: the key of the genome that each is, or why it is none.

Source: mergekit 0.1.5, `mergekit.scripts.evolve`.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from evomerge.genome.execution_block import Execution

_KEYS: dict[str, tuple[str, Any]] = {  # key of the genome, type
    "--max-fevals": ("optimizer.budget", int),
    "--timeout": ("optimizer.timeout", float),
    "--force-population-size": ("optimizer.population_size", int),
    "--random-seed": ("seed", int),
    "--batch-size": ("evaluation.batch_size", int),
}
_IN_MEMORY = "every merge is made in memory and nothing is converted before"
_UNLOADED = "candidates are scored as they are exported, by the engine of `evaluation.backend`"
_UNTRACKED = "`trackers:` of the genome says who keeps a run; `evomerge list trackers`"
_IDLE = {
    "--in-memory/--no-in-memory": _IN_MEMORY,
    "--merge-cuda/--no-merge-cuda": _IN_MEMORY,
    "--reshard/--no-reshard": _IN_MEMORY,
    "--vllm/--no-vllm": _UNLOADED,
    "--load-in-8bit": _UNLOADED,
    "--load-in-4bit": _UNLOADED,
    "--wandb/--no-wandb": _UNTRACKED,
    "--wandb-project": _UNTRACKED,
    "--wandb-entity": _UNTRACKED,
    "--allow-crimes/--no-allow-crimes": "`evomerge check` says which models do not fit",
    "--no-trust-remote-code": "nothing is trusted that you do not name",
    "--save-final-model/--no-save-final-model": "`evomerge export` writes the winner",
    "--i-understand-the-depths-of-the-evils-i-am-unleashing": "any task may steer",
}
_WITH_TEXT = ("--wandb-project", "--wandb-entity")


@dataclass(frozen=True)
class EvolveOptions:
    """What was given of them.

    Attributes:
        strategy: How trials are scheduled; None: not said.
        num_gpus: GPUs of all workers; None: not said.
        storage_path: Where it keeps merged models and the best recipe.
        settings: Keys of the genome, as ``--set`` takes them.
        idle: Those without a meaning here, each with why.
    """

    strategy: str | None = None
    num_gpus: int | None = None
    storage_path: Path | None = None
    settings: tuple[str, ...] = ()
    idle: tuple[tuple[str, str], ...] = ()

    def overrides(self, given: Execution) -> tuple[str, ...]:
        """All of it as ``--set`` takes it.

        Args:
            given: Of the genome.
        """
        return (*self._execution(given), *self.settings)

    def _execution(self, given: Execution) -> tuple[str, ...]:
        """A GPU for each worker, of this machine or a cluster; the genome's other keys stay."""
        from evomerge.genome.load import in_a_line  # parses YAML; help needs none

        own: dict[str, Any]
        if self.strategy == "serial":
            own = {"executor": "serial", "workers": 1}
        elif not self.num_gpus:
            return ()
        elif "RAY_ADDRESS" in os.environ:
            own = {"executor": "ray", "workers": self.num_gpus, "num_gpus": 1}
        else:
            own = {"workers": self.num_gpus, "devices": "auto"}
        is_same = given.chosen_executor == type(given).model_validate(own).chosen_executor
        kept = dict(given.settings) if is_same else {}
        if given.trial_timeout is not None:
            kept["trial_timeout"] = given.trial_timeout
        return (f"execution={in_a_line({**kept, **own})}",)

    def notes(self, given: Execution) -> Iterator[str]:
        """What each means here, or why nothing.

        Args:
            given: `execution:` of the genome.
        """
        for override in self.overrides(given):
            yield f"as mergekit-evolve's options have it: --set {shlex.quote(override)}"
        if self.strategy is not None and not self._execution(given):
            yield (
                f"--strategy {self.strategy}: trials run as `execution:` says; for N workers add "
                "--num-gpus N"
            )
        reasons = dict.fromkeys(why for _, why in self.idle)
        for reason in reasons:
            flags = ", ".join(flag for flag, why in self.idle if why == reason)
            yield f"{flags}: of no meaning here; {reason}"


_unseen = partial(click.option, hidden=True)


def evolve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them, unseen in help; passed as ``evolve``."""

    @_unseen("--strategy", "-s", type=click.Choice(["pool", "buffered", "serial"]))
    @_unseen("--num-gpus", type=click.IntRange(min=0))
    @_unseen("--storage-path", type=click.Path(path_type=Path, file_okay=False))
    @_unseen("--sigma0", type=float)
    @_unseen("--task-search-path", multiple=True)
    @wraps(command)
    def with_evolve(
        *args: Any,
        strategy: str | None,
        num_gpus: int | None,
        storage_path: Path | None,
        sigma0: float | None,
        task_search_path: tuple[str, ...],
        **options: Any,
    ) -> Any:
        settings = []
        for flag, (key, _) in _KEYS.items():
            value = options.pop(_name(flag))
            settings += [] if value is None else [f"{key}={value}"]
        if sigma0 is not None:  # of CMA-ES, the only optimizer it has
            settings += ["optimizer.name=cma_es", f"optimizer.sigma={sigma0}"]
        if task_search_path:
            settings.append(f"task_search_path={json.dumps(task_search_path)}")
        idle = []
        for flags, reason in _IDLE.items():
            value = options.pop(_name(flags))
            if value is not None:
                yes, _, no = flags.partition("/")
                idle.append((yes if value or not no else no, reason))
        evolve = EvolveOptions(strategy, num_gpus, storage_path, tuple(settings), tuple(idle))
        return command(*args, evolve=evolve, **options)

    return reduce(lambda to, add: add(to), _plain_options(), with_evolve)


def _plain_options() -> Iterator[Callable[..., Any]]:
    for flag, (_, kind) in _KEYS.items():
        yield _unseen(flag, _name(flag), type=kind)
    for flags in _IDLE:
        if flags in _WITH_TEXT:
            yield _unseen(flags, _name(flags))
        else:
            yield _unseen(flags, _name(flags), is_flag=True, default=None)


def _name(flags: str) -> str:
    return f"evolve_{flags.partition('/')[0].lstrip('-').replace('-', '_')}"

"""What the workers of a run are given, by the executor that the genome names."""

from __future__ import annotations

from evomerge.genome.schema import Genome


def n_sharing(genome: Genome) -> int:
    """Workers whose live models share one device."""
    from evomerge.executors.own_settings import executor_settings  # late: no plan needs workers

    execution = genome.execution
    return executor_settings(execution).sharing(execution.workers)


def gives_devices(genome: Genome) -> bool:
    """Whether the executor says where live models are, and looks for it."""
    from evomerge.executors.own_settings import executor_settings

    return executor_settings(genome.execution).device is not None


def are_here(genome: Genome) -> bool:
    """Whether the workers run on this machine, as far as known."""
    from evomerge.executors import EXECUTORS

    name = genome.execution.chosen_executor
    return name not in EXECUTORS or EXECUTORS[name].is_on_this_machine

"""The own settings of the executor that a genome names."""

from __future__ import annotations

from evomerge.executors import EXECUTORS
from evomerge.executors.base import ExecutorSettings
from evomerge.genome.execution_block import Execution


def executor_settings(execution: Execution) -> ExecutorSettings:
    """Its own settings, where nothing is wrong with them; of an unknown one what all have."""
    name = execution.chosen_executor
    if name not in EXECUTORS:
        return ExecutorSettings()
    return EXECUTORS[name].Settings.model_validate(execution.settings)

"""What is wrong with the own settings of the executor that a genome names."""

from __future__ import annotations

from pydantic import ValidationError

from evomerge.executors import EXECUTORS
from evomerge.foundations.errors import Problem
from evomerge.genome.execution_block import Execution
from evomerge.genome.load import problems_of
from evomerge.genome.yaml_file import YamlFile

_BLOCK = "execution"


def executor_problems(execution: Execution, source: YamlFile) -> list[Problem]:
    """What its executor does not take of what a genome says; of an unknown one nothing is known."""
    name = execution.chosen_executor
    if name not in EXECUTORS:
        return []
    settings = EXECUTORS[name].Settings
    try:
        settings.model_validate(execution.settings)
    except ValidationError as error:
        return problems_of(error, source, settings, (_BLOCK,), Execution.model_fields)
    return []

"""Negative weights in files of mergekit-evolve's form, which mean that lower is better.

mergekit-evolve knows no directions; a genome does, and there a positive weight says the same. What
is kept in the run folder then needs nothing of that form.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

from evomerge.compiler.split_tasks import LoadedTasks, with_weights
from evomerge.foundations.findings import Finding, note
from evomerge.genome.load import validate_genome
from evomerge.genome.schema import Genome
from evomerge.genome.yaml_file import YamlFile


@dataclass(frozen=True)
class Turned:
    """A genome whose weights ask for what its file means.

    Attributes:
        genome: The genome.
        source: Its file.
        tasks: Its tasks.
        notes: One for each weight that was turned.
    """

    genome: Genome
    source: YamlFile
    tasks: LoadedTasks
    notes: Sequence[Finding] = ()


def turned(genome: Genome, source: YamlFile, tasks: LoadedTasks) -> Turned:
    """The same where weights are turned whose metric is known to be better when lower."""
    weights = _turned_weights(tasks) if source.is_evolve else {}
    if not weights:
        return Turned(genome, source, tasks)
    data, notes = deepcopy(source.data), []
    for index, weight in weights.items():
        data["tasks"][index]["weight"] = weight
        metric = tasks.objectives["tasks"].keys[index].metric
        sentence = (
            f"in a file of mergekit-evolve's form weight {-weight:g} says that lower {metric} is "
            f"better; it is, and a genome writes {weight:g}"
        )
        notes.append(note(sentence, f"tasks[{index}].weight"))
    source = replace(source, data=data)
    again = validate_genome(source).model_copy(update={"optimizer": genome.optimizer})
    return Turned(again, source, with_weights(tasks, weights), notes)


def _turned_weights(tasks: LoadedTasks) -> dict[int, float]:
    """Index of a search task -> the weight that says the same where directions are known."""
    evaluator = tasks.evaluators.get("tasks")
    if evaluator is None or all(task.weight >= 0 for task in evaluator.tasks):
        return {}
    return {
        index: -task.weight
        for index, (task, facts) in enumerate(zip(evaluator.tasks, evaluator.facts(), strict=True))
        if task.weight < 0 and facts.is_known and not facts.higher_is_better
    }

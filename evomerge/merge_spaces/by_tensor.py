"""A genome with a value of its own for every tensor, whatever groups it had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.parameter_values import ParameterSettings
from evomerge.genome.source_blocks import Source


def per_tensor(own: MergeDefinition) -> MergeDefinition:
    """The merges of a genome and finer ones: a value per tensor and model.

    What the genome allows at a place holds for its tensors: ranges, fixed values, normalisation.
    Tensors that are equal in all models have none, as anywhere.
    """
    modules = {
        name: part.model_copy(
            update={"parameters": _level(part.parameters), "models": _sources(part.models)}
        )
        for name, part in own.modules.items()
    }
    return own.model_copy(
        update={
            "granularity": "tensor",
            "layer_granularity": 0,
            "smooth": False,
            "filters": None,
            "parameters": _level(own.parameters),
            "models": _sources(own.models),
            "modules": modules,
        }
    )


def _sources(models: Sequence[Source]) -> list[Source]:
    return [one.model_copy(update={"parameters": _level(one.parameters)}) for one in models]


def _level(parameters: Mapping[str, ParameterSettings]) -> dict[str, ParameterSettings]:
    """The same without starts over depth: a tensor has one depth, and is begun elsewhere."""
    found = {}
    for name, settings in parameters.items():
        entries = [
            entry.model_copy(update={"initial": None}) if isinstance(entry.initial, list) else entry
            for entry in settings.entries
        ]
        found[name] = settings.model_copy(update={"entries": entries})
    return found

"""A space with a value of its own for every tensor, whatever groups the genome has."""

from __future__ import annotations

from collections.abc import Mapping

from evomerge.genome.parameter_values import Settings
from evomerge.merge_spaces.parameter_space import ParameterSpace


def by_tensor(merge_space: ParameterSpace) -> ParameterSpace:
    """The merges of a space and finer ones: a value per tensor and model.

    What the genome allows at a place holds for its tensors: ranges, fixed values, normalisation.
    Tensors that are equal in all models have none, as anywhere.

    Raises:
        GenomeError: a value that the genome fixes varies over depth.
    """
    own = merge_space.definition
    models = [one.model_copy(update={"parameters": _level(one.parameters)}) for one in own.models]
    definition = own.model_copy(
        update={
            "granularity": "tensor",
            "layer_granularity": 0,
            "smooth": False,
            "filters": None,
            "parameters": _level(own.parameters),
            "models": models,
        }
    )
    finer = ParameterSpace(definition, merge_space.architecture, merge_space.out_dtype)
    return finer.beyond_models() if merge_space.is_beyond else finer


def _level(parameters: Mapping[str, Settings]) -> dict[str, Settings]:
    """The same without starts over depth: a tensor has one depth, and is begun elsewhere."""
    found = {}
    for name, settings in parameters.items():
        entries = [
            entry.model_copy(update={"initial": None}) if isinstance(entry.initial, list) else entry
            for entry in settings.entries
        ]
        found[name] = settings.model_copy(update={"entries": entries})
    return found

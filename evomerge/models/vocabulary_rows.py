"""How many rows the vocabulary tensors of models have, by their headers."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.models.completeness import weights_of
from evomerge.models.facts import ModelFacts


def vocabulary_rows(models: Sequence[ModelFacts]) -> dict[str, dict[str, int]]:
    """Tensor -> name of a model that has it -> its rows there."""
    found: dict[str, dict[str, int]] = {}
    for model in models:
        for weight in weights_of(model):
            axis = weight.vocabulary_axis
            name = next((one for one in weight.names if one in model.tensors), None)
            if axis is not None and name is not None and axis < len(model.tensors[name].shape):
                found.setdefault(weight.name, {})[model.name] = model.tensors[name].shape[axis]
    return found

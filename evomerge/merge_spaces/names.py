"""What models are called in the names of parameters."""

from __future__ import annotations

from evomerge.genome.model_names import ModelName


def short_names(models: tuple[ModelName, ...]) -> list[str]:
    """The last parts of the models' names, as many as tell them apart."""
    for n_parts in range(1, 1 + max(model.text.count("/") + 1 for model in models)):
        names = ["/".join(model.text.split("/")[-n_parts:]) for model in models]
        if len(set(names)) == len(names):
            return names
    return [model.text for model in models]

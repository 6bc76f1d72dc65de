"""A stack of layers in a few characters, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from evomerge.genome.model_names import ModelName
from evomerge.recipe.plain import Recipe
from evomerge.recipe.stacked import StackedLayer, n_slices, stacked_layers

_LONGEST = 60  # characters


def path_text(recipe: Recipe) -> str:
    """Which layers a recipe runs, first and last of each row of them: ``sort 0-3, twice 2-7``.

    A model is called by the last part of its path, by the whole where two end alike; one that ran
    just before is not named again, and what is too long ends with ``...``.

    Returns:
        "" where the recipe is no stack.
    """
    layers = stacked_layers(recipe) if n_slices(recipe) else ()
    names = _names(layers)
    found, before = [], ""
    for model, first, last in _rows(layers):
        name = names[model]
        row = str(first) if first == last else f"{first}-{last}"
        found.append(row if name == before else f"{name} {row}")
        before = name
    text = ", ".join(found)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4].rpartition(',')[0]}, ..."


def _rows(layers: Sequence[StackedLayer]) -> Iterator[tuple[ModelName, int, int]]:
    """Layers that follow one another: their model, the first and the last."""
    ends = [0]
    ends += [
        index
        for index, (one, other) in enumerate(pairwise(layers), 1)
        if (other.model, other.layer) != (one.model, one.layer + 1)
    ]
    for start, end in pairwise([*ends, len(layers)] if layers else []):
        model = ModelName.model_validate(layers[start].model)
        yield model, layers[start].layer, layers[end - 1].layer


def _names(layers: Sequence[StackedLayer]) -> dict[ModelName, str]:
    models = [ModelName.model_validate(key) for key, _ in groupby(layers, lambda one: one.model)]
    whole = {model: model.text for model in models}
    tails = {model: text.rstrip("/").rpartition("/")[2] for model, text in whole.items()}
    count = Counter(tails.values())
    return {model: tails[model] if count[tails[model]] == 1 else whole[model] for model in whole}

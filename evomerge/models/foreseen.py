"""What a model that is yet to be made will be like: one that it is made of, maybe deeper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts, TensorFacts
from evomerge.models.families import family_of


def foreseen(
    like: ModelFacts,
    name: ModelName,
    n_layers: int | None = None,
    donors: Sequence[ModelFacts] = (),
) -> ModelFacts:
    """The facts of a model that mergekit is to build.

    Args:
        like: The model that gives it configuration and tokenizer.
        name: What it is called.
        n_layers: How many layers it will have; None: as many.
        donors: All that it is made of: where one has a head of its own, so will it.
    """
    like = _with_head(like, donors)
    family = family_of(like)
    depth = 0 if family is None else family.n_layers(like)
    if family is not None and n_layers is not None and n_layers != depth:
        names = [weight.name for weight in family.layer]
        config = _with(like.config, family.layers_key.split("."), n_layers)
        like = replace(like, config=config, tensors=_of_depth(like, names, depth, n_layers))
    files = {file: size for file, size in like.files.items() if file not in like.pickles}
    return replace(
        like,
        folder=None,
        files={**files, "model.safetensors": 0} if like.pickles else files,
        name=name.text,
        reference=name.in_recipe,
        adapter=None,
        card={},
        like=like.reference if like.like is None else like.like,
    )


def _with_head(like: ModelFacts, donors: Sequence[ModelFacts]) -> ModelFacts:
    """The same with a head, which is as large as the embeddings, where any donor has one."""
    family = family_of(like)
    if family is None:
        return like
    heads, embeddings = (
        [weight.name for weight in weights if weight.vocabulary_axis is not None]
        for weights in (family.after, family.before)
    )
    found = {
        head: like.tensors[inner]
        for head, inner in zip(heads, embeddings, strict=False)
        if inner in like.tensors and any(head in donor.tensors for donor in donors)
    }
    return replace(like, tensors={**found, **like.tensors})


def _with(config: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    key, *below = path
    return {**config, key: _with(config.get(key, {}), below, value) if below else value}


def _of_depth(
    like: ModelFacts, layer: list[str], depth: int, n_layers: int
) -> dict[str, TensorFacts]:
    """The tensors of a model with more or fewer layers; those beyond are like the last."""
    of_layers = {name.format(layer=index) for name in layer for index in range(depth)}
    found = {name: one for name, one in like.tensors.items() if name not in of_layers}
    for index in range(n_layers):
        for name in layer:
            tensor = like.tensors.get(name.format(layer=min(index, depth - 1)))
            found |= {} if tensor is None else {name.format(layer=index): tensor}
    return found

"""What mergekit reads from a recipe for every tensor, without a model on disk.

Follows mergekit's planner (`mergekit.plan`): embeddings from the first slice and the tensors
after the layers from the last, both at depth 0; one contract check per slice.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from mergekit import merge_methods
from mergekit.config import (
    ConfigReader,
    InputSliceDefinition,
    MergeConfiguration,
    OutputSliceDefinition,
)
from mergekit.parameter_resolver import resolve_parameters

from evomerge.models.architecture import Architecture
from evomerge.recipe.plain import Recipe
from evomerge.recipe.pool import Pool

Values = dict[tuple[str, str, str], Any]  # (tensor, model or "", parameter) -> value


def resolved(recipe: Recipe, architecture: Architecture) -> Values:
    """Every value mergekit reads; raises what mergekit raises where it refuses the recipe.

    Of several merges each has its own tensors, under its name; of a mixture, which mergekit does
    not read, there are its weights, with a task in a tensor's place.
    """
    if recipe.unbuilt:
        return _mixed(recipe)
    if recipe.is_plain:
        return _resolved(recipe.config, architecture)
    found: Values = {}
    for name, document in zip(recipe.made, recipe.documents, strict=True):
        own = _resolved(document, architecture)
        found |= {(f"{name} {tensor}", *rest): value for (tensor, *rest), value in own.items()}
    return found


def _resolved(document: Mapping[str, Any], architecture: Architecture) -> Values:
    config = MergeConfiguration.model_validate(copy.deepcopy(dict(document)))
    if not config.modules:
        return _of_part(config, config, architecture)
    assert config.modules.keys() == architecture.parts.keys()
    found: Values = {}
    for name, part in architecture.parts.items():
        found |= _of_part(config, config.modules[name], part)
    return found


def _of_part(config: MergeConfiguration, module: Any, architecture: Architecture) -> Values:
    spec = merge_methods.get(config.merge_method)
    slices = module.slices or [_whole(module.models, config.base_model, architecture.n_layers)]
    for slice_ in slices:
        base = slice_.base_model or config.base_model
        spec.validate_inputs([source.model for source in slice_.sources], base)
    found: Values = {}
    stacked = [
        (str(s.sources[0].model), layer)
        for s in slices
        for layer in range(*s.sources[0].layer_range)
    ]
    is_path = config.merge_method == "passthrough" and module.slices is not None
    if is_path:  # which layers there are is what it says
        found.update({(f"layer {n}", "", "hop"): hop for n, hop in enumerate(stacked)})
    for tensor, slice_, t in _places(slices, architecture):
        own = None if module is config else module
        reader = ConfigReader(config=config, t=t, slice_out=slice_, module=own)
        shared, per_input = resolve_parameters(
            spec.spec,
            tensor_name=tensor,
            inputs={source.model: tensor for source in slice_.sources},
            sources=reader.parameter_sources,
            base_model=reader.base_model,
            t=t,
        )
        found.update({(tensor, "", name): value for name, value in shared.items()})
        for model, values in per_input.items():
            found.update({(tensor, str(model), name): v for name, v in values.items()})
        if slice_.base_model:
            found[tensor, "", "pair"] = tuple(str(source.model) for source in slice_.sources)
    assert is_path or len(stacked) == architecture.n_layers
    return found


def _mixed(recipe: Recipe) -> Values:
    recipe.check()
    pool = Pool.of(recipe.config)
    rows = {"": pool.weights, **pool.of_tasks}
    return {
        (task, model.text, "weight"): weight
        for task, weights in rows.items()
        for model, weight in zip(recipe.models, weights, strict=True)
    }


def _whole(models: Any, base: Any, n_layers: int) -> OutputSliceDefinition:
    inputs = [
        InputSliceDefinition(model=m.model, parameters=m.parameters, layer_range=(0, n_layers))
        for m in models
    ]
    if base and all(source.model != base for source in inputs):
        inputs.append(InputSliceDefinition(model=base, layer_range=(0, n_layers)))
    return OutputSliceDefinition(sources=inputs)


def _places(
    slices: list[OutputSliceDefinition], architecture: Architecture
) -> Iterator[tuple[str, OutputSliceDefinition, float]]:
    place = 0
    for tensor in (*architecture.embeddings, *architecture.beside):
        yield tensor, slices[0], 0
    for slice_ in slices:
        start, end = slice_.sources[0].layer_range
        for layer in range(start, end):
            t = (layer - start) / (end - start - 1) if end - start > 1 else 1
            for tensor in architecture.layer_tensors:
                yield tensor.replace("{layer}", str(place)), slice_, t
            place += 1
    for tensor in (*architecture.final_norm, *architecture.head):
        yield tensor, slices[-1], 0

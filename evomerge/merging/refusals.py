"""Why mergekit would refuse a recipe, as far as the recipe alone shows; no model is read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mergekit import merge_methods
from mergekit.common import ModelReference, dtype_from_name
from mergekit.config import (
    ConditionalParameter,
    ConfigReader,
    InputModelDefinition,
    InputSliceDefinition,
    MergeConfiguration,
    OutputModuleDefinition,
    OutputSliceDefinition,
)
from mergekit.merge_methods.base import MergeMethodSpec, ParameterScope
from pydantic import ValidationError

from evomerge.genome.model_names import ModelName
from evomerge.models.architecture import Architecture
from evomerge.recipe.plain import Recipe

_ANY = sys.maxsize  # layers of a model that is yet to be made, or is merged whole
_Depth = Callable[[ModelReference], int]
_Group = tuple[str, list[ModelReference], ModelReference | None, ConfigReader]


def refusals(recipe: Recipe, architecture: Architecture) -> list[str]:
    """What mergekit would say, in its words; empty where it would merge.

    Args:
        recipe: What it would merge.
        architecture: Of its models.
    """

    def depth(model: ModelReference) -> int:
        name = ModelName.model_validate(str(model))
        return _ANY if name.path in recipe.made else architecture.depth_of(name)

    depths = {name: part.n_layers for name, part in architecture.parts.items()}
    found = [why for document in recipe.documents for why in _refusals(document, depth, depths)]
    return list(dict.fromkeys(found))


def _refusals(config: Mapping[str, Any], depth: _Depth, depths: Mapping[str, int]) -> list[str]:
    try:
        read = MergeConfiguration.model_validate(dict(config))
        method = merge_methods.get(read.merge_method)
        for name in (read.dtype, read.out_dtype):
            dtype_from_name(name)
    except ValidationError as error:
        return [_sentence(details) for details in error.errors(include_url=False)]
    except (RuntimeError, ValueError) as error:
        return [str(error)]
    found = []
    for name, models, base, reader in _groups(read):
        twice = [str(model) for model in dict.fromkeys(models) if models.count(model) > 1]
        found += [f"{name}: {', '.join(twice)} stands there twice"] if twice else []
        try:
            method.validate_inputs(models, base, group_name=name)
        except ValueError as error:
            found += [] if twice else [str(error)]
        found += _values(method.spec, models, base, reader)
    return [*found, *_parts(read, depths), *_layers(read, depth, depths)]


def _sentence(details: Any) -> str:
    place = ".".join(map(str, details["loc"]))
    return f"{place}: {details['msg']}" if place else str(details["msg"])


def _modules(config: MergeConfiguration) -> Iterator[tuple[str, OutputModuleDefinition]]:
    if config.modules:
        yield from config.modules.items()
    else:
        yield "", OutputModuleDefinition(slices=config.slices, models=config.models)


def _groups(config: MergeConfiguration) -> Iterator[_Group]:
    """Which models are merged with which settings: those of the recipe, or of each slice."""
    for name, module in _modules(config):
        slices = module.slices or [_whole(module.models or (), config.base_model)]
        for index, part in enumerate(slices):
            reader = ConfigReader(config=config, t=0, slice_out=part, module=module)
            models = [source.model for source in part.sources]
            place = f"{name}.slices[{index}]".lstrip(".") if module.slices else "models"
            yield place, models, reader.base_model, reader


def _whole(
    models: Iterable[InputModelDefinition], base: ModelReference | None
) -> OutputSliceDefinition:
    """As mergekit does: all layers of all models, the base last unless it is one of them."""
    named = [(entry.model, entry.parameters) for entry in models]
    if base is not None and base not in [model for model, _ in named]:
        named.append((base, None))
    layers = (0, _ANY)
    sources = [
        InputSliceDefinition(model=model, layer_range=layers, parameters=parameters)
        for model, parameters in named
    ]
    return OutputSliceDefinition(sources=sources)


def _values(
    spec: MergeMethodSpec,
    models: Iterable[ModelReference],
    base: ModelReference | None,
    reader: ConfigReader,
) -> Iterator[str]:
    """Values that a parameter cannot have, and required ones that nobody gives."""
    for parameter in spec.shared_parameters:
        yield from _value(parameter, reader.parameter_sources(None), spec.name)
    for model in dict.fromkeys(models):
        for parameter in spec.input_parameters:
            if model != base or parameter.scope == ParameterScope.INPUT:
                sources = reader.parameter_sources(model)
                yield from _value(parameter, sources, f"{spec.name}, model {model}")


def _value(parameter: Any, sources: Iterable[Any], whose: str) -> Iterator[str]:
    settings = [given[parameter.name] for given in sources if given and parameter.name in given]
    if parameter.required and not settings:
        yield f"{whose}: parameter {parameter.name} is missing"
    for value in _leaves(settings):
        try:
            parameter.validate(value)
        except ValidationError as error:
            (details, *_) = error.errors(include_url=False)
            yield f"{whose}: {parameter.name} is {value!r}: {details['msg']}"


def _leaves(setting: Any) -> Iterator[Any]:
    if isinstance(setting, ConditionalParameter):
        yield from _leaves(setting.value)
    elif isinstance(setting, list):
        for part in setting:
            yield from _leaves(part)
    else:
        yield setting


def _parts(config: MergeConfiguration, depths: Mapping[str, int]) -> Iterator[str]:
    """Parts that the models have not, and those that a recipe leaves out without a word."""
    if not depths:
        return
    if config.slices:
        yield "Model has multiple modules, must use modules: config syntax to work with slices"
    for name in config.modules or ():
        if name not in depths:
            yield f"the models have no part {name!r}, they have {', '.join(depths)}"
    missing = [name for name in depths if config.modules and name not in config.modules]
    if missing:
        yield f"it names no {' and no '.join(missing)}, whose tensors would be left out"


def _layers(config: MergeConfiguration, depth: _Depth, depths: Mapping[str, int]) -> Iterator[str]:
    """Ranges of layers that a model has not, or that do not fit one another."""
    for name, module in _modules(config):
        for index, part in enumerate(module.slices or ()):
            ranges = [source.layer_range for source in part.sources]
            for source, (start, end) in zip(part.sources, ranges, strict=True):
                n_layers = depths[name] if name in depths else depth(source.model)
                if not 0 <= start < end <= n_layers:
                    yield (
                        f"slices[{index}]: layer_range [{start}, {end}] of {source.model}, which "
                        f"has {n_layers} layers"
                    )
            if len({end - start for start, end in ranges}) > 1:
                yield f"slices[{index}]: its sources have ranges of different lengths"

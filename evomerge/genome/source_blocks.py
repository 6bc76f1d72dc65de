"""What is merged: models, and parts of models, each with settings of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pydantic import Field

from evomerge.genome.block import Block
from evomerge.genome.misfit import KeyPath, MisfitError
from evomerge.genome.model_names import ModelName
from evomerge.genome.parameter_values import ParameterSettings


class Source(Block):
    """One model to merge, and what is particular to it."""

    model: ModelName = Field(
        description="Hub id, folder, `model+lora`, `model@revision`, or `{stage: NAME}`: what an "
        "earlier stage found."
    )
    parameters: dict[str, ParameterSettings] = Field(
        default_factory=dict, description="Settings that hold for this model only."
    )

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"model": value}
        if isinstance(value, dict) and (
            "lora" in value or not set(value) & {"model", "parameters"}
        ):
            return {"model": value}  # the name itself is a mapping
        return value


class ModuleBlock(Block):
    """One part of models that have several, as mergekit's ``modules:`` name it."""

    models: list[Source] = Field(
        default_factory=list,
        description="The models whose parts are merged. Default: all of `genome.models`. The base "
        "alone, or for a method without a base the first model alone: taken as it is.",
    )
    parameters: dict[str, ParameterSettings] = Field(
        default_factory=dict, description="In place of those of `genome.parameters` of these names."
    )

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        return {} if value is None else value


# (settings, where they stand, whether under a model) -> what is wrong with them
Unfit = Callable[[Mapping[str, ParameterSettings], KeyPath, bool], Iterator[MisfitError]]


def models_of_modules(block: Mapping[str, Any], *, is_base_merged: bool) -> dict[str, Any]:
    """The `models` of a `genome:` block that names them in its modules alone; or nothing.

    Args:
        block: As the file has it, mistakes included.
        is_base_merged: Whether a base that stands there is one of them.
    """
    modules = block.get("modules")
    named = modules.values() if isinstance(modules, dict) else ()
    listed = [one["models"] for one in named if isinstance(one, dict) and "models" in one]
    names = [_named(entry) for one in listed if isinstance(one, list) for entry in one]
    once = [name for index, name in enumerate(names) if name not in names[:index]]
    if not is_base_merged:
        once = [name for name in once if name != block.get("base_model")] or once
    return {"models": once} if once else {}


def _named(entry: Any) -> Any:
    """The model that an entry of a list of models names, as the file has it."""
    is_long = isinstance(entry, dict) and "model" in entry
    return entry["model"] if is_long and set(entry) <= {"model", "parameters"} else entry


def unfit_modules(modules: Mapping[str, ModuleBlock], unfit: Unfit) -> Iterator[MisfitError]:
    """What is wrong with parts by themselves.

    Args:
        modules: Name -> part.
        unfit: Tells what is wrong with settings.
    """
    for name, module in modules.items():
        place = ("modules", name)
        yield from unfit(module.parameters, (*place, "parameters"), False)
        names = [source.model for source in module.models]
        for index, source in enumerate(module.models):
            here = (*place, "models", index)
            if source.model in names[:index]:
                yield MisfitError(f"{source.model} stands twice", *here)
            yield from unfit(source.parameters, (*here, "parameters"), True)


def strangers(
    modules: Mapping[str, ModuleBlock], models: Collection[ModelName | None]
) -> Iterator[MisfitError]:
    """Models of parts that are none of the genome's."""
    for name, module in modules.items():
        for index, source in enumerate(module.models):
            if source.model not in models:
                what = f"{source.model} is not among genome.models"
                place = ("modules", name, "models", index)
                yield MisfitError(what, *place, fix="Add it there, or leave genome.models out.")

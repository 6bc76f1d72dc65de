"""What is merged: models, and parts of models, each with settings of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import Field

from evomerge.genome.block import Block
from evomerge.genome.merge_method import Base, Method
from evomerge.genome.method_fit import IsKnown, unfit_settings
from evomerge.genome.methods import METHODS
from evomerge.genome.misfit import MisfitError
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


def models_of_modules(block: Mapping[str, Any]) -> dict[str, Any]:
    """The `models` of a `genome:` block that names them in its modules alone; or nothing.

    Args:
        block: As the file has it, mistakes included.
    """
    modules = block.get("modules")
    named = modules.values() if isinstance(modules, dict) else ()
    listed = [one["models"] for one in named if isinstance(one, dict) and "models" in one]
    names = [_named(entry) for one in listed if isinstance(one, list) for entry in one]
    once = [name for index, name in enumerate(names) if name not in names[:index]]
    method = METHODS.get(str(block.get("merge_method")))
    if method is None or method.base is not Base.IGNORED:
        once = [name for name in once if name != block.get("base_model")] or once
    return {"models": once} if once else {}


def _named(entry: Any) -> Any:
    """The model that an entry of a list of models names, as the file has it."""
    is_long = isinstance(entry, dict) and "model" in entry
    return entry["model"] if is_long and set(entry) <= {"model", "parameters"} else entry


def unfit_modules(
    modules: Mapping[str, ModuleBlock],
    method: Method | None,
    own_keys: Iterable[str],
    known: IsKnown,
) -> Iterator[MisfitError]:
    """What is wrong with parts by themselves.

    Args:
        modules: Name -> part.
        method: The genome's merge method; None where it is not known.
        own_keys: As of :func:`unfit_settings`.
        known: Likewise.
    """
    keys = tuple(own_keys)
    for name, module in modules.items():
        place = ("modules", name)
        names = [source.model for source in module.models]
        for index, source in enumerate(module.models):
            if source.model in names[:index]:
                yield MisfitError(f"{source.model} stands twice", *place, "models", index)
        if method is None:
            continue
        yield from unfit_settings(method, module.parameters, (*place, "parameters"), keys, known)
        for index, source in enumerate(module.models):
            here = (*place, "models", index, "parameters")
            yield from unfit_settings(method, source.parameters, here, keys, known, of_a_model=True)


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

"""A recipe -> the `genome:` block of a search that begins at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evomerge.foundations.errors import GenomeError
from evomerge.genome.merge_method import Base
from evomerge.genome.model_names import ModelName
from evomerge.recipe.effective import Effective, Entries, ParameterEntry, Settings
from evomerge.recipe.ranges import Span, della_bounds, fixed, opened, strongest


def has_numbers(recipe: Effective) -> bool:
    """Whether the method has a number to search at all."""
    return any(parameter.range is not None for parameter in recipe.method.live_parameters)


def opened_block(recipe: Effective) -> dict[str, Any]:
    """What may vary: every number of the recipe, in a range around it.

    Several groups of layers have one range for all their values, and numbers that hold for the
    whole merge stay. Weights that are divided by their sum are searched as shares there; in one
    group the largest stays and the others are opened.

    Args:
        recipe: A recipe of whole models.
    """
    method = recipe.method
    own = {m: _joined([part.own[m] for part in recipe.parts]) for m in recipe.models}
    shared = _joined([part.shared for part in recipe.parts])
    bounds = _bounds(method.name, own.values())
    held = _held(own) if recipe.normalizes and not recipe.step else None

    def setting(name: str, entries: Entries, stays: bool) -> Any:
        parameter = method.parameter(name)
        if stays:
            return fixed(entries)
        return opened(method, parameter, entries, bounds.get(name), over_depth=not recipe.step)

    block: dict[str, Any] = {"models": [], "merge_method": method.name}
    for model in recipe.models:
        parameters = {
            name: setting(name, entries, stays=name == "weight" and model == held)
            for name, entries in own[model].items()
            if not (name == "weight" and recipe.step and recipe.normalizes)
        }
        entry = {"model": model.in_recipe, "parameters": parameters}
        block["models"].append(entry if parameters else model_entry(model))
    parameters = {
        name: setting(name, entries, bool(recipe.step) and not method.parameter(name).searched)
        for name, entries in shared.items()
    }
    block |= {"parameters": parameters} if parameters else {}
    finely = {"layer_granularity": recipe.step} if recipe.step else {"granularity": "model"}
    return {**block, **frame_of(recipe), **finely}


def opened_modules(parts: Mapping[str, Effective], language: str) -> dict[str, Any]:
    """The same of a recipe of several modules, each with models and numbers of its own.

    A module that is the base's, or for a method without a base the first model's, as it is, is
    none that is searched.

    Args:
        parts: Module -> what it merges; more than one of them.
        language: The one that holds the language model, whose layers may be grouped.

    Raises:
        GenomeError: another one has groups of layers, too, or every one is that of one model, or
            one is that of one model multiplied.
    """
    first = next(iter(parts.values()))
    donor = first.base if first.names_base else first.models[0]
    merged = {name: one for name, one in parts.items() if {*one.models} - {donor}}
    for name, one in parts.items():
        if name not in merged and not _gives_back(one):
            raise GenomeError(
                f"module {name} has {donor} alone, by other weights than 1: a search takes such a "
                "part as it is",
                fix="Write 1 there, or name it as optimizer.seed_from of a genome of its models.",
            )
    for name, one in merged.items():
        if one.step and name != language:
            raise GenomeError(
                f"module {name} has values of its own for groups of its layers: a search has them "
                f"in {language} alone",
                fix="Name it as optimizer.seed_from of a genome of its models: it is tried as it "
                "is.",
            )
    if not merged:
        raise GenomeError("every module is that of one model: there is no number to open")
    blocks = {name: opened_block(one) for name, one in merged.items()}
    whole = blocks.get(language) or next(iter(blocks.values()))
    modules = {
        name: {key: block[key] for key in ("models", "parameters") if key in block}
        for name, block in blocks.items()
    }
    around = {key: v for key, v in whole.items() if key not in ("models", "parameters")}
    models = list(dict.fromkeys(model for one in merged.values() for model in one.models))
    # The search takes the first one of all for the donor.
    if donor is not None and not first.names_base and models[0] != donor:
        others = [model for model in models if model != donor]
        around = {"models": [*map(model_entry, (donor, *others))], **around}
    return {"modules": modules, **around}


def _gives_back(part: Effective) -> bool:
    """Whether a part of one model is that model, to the bit."""
    if part.normalizes or (part.names_base and part.method.base is not Base.IGNORED):
        return True
    settings = [one for group in part.parts for one in (group.shared, *group.own.values())]
    return all(
        value == 1
        for given in settings
        for name, entries in given.items()
        if part.method.parameter(name).range is not None
        for entry in entries
        for value in entry.values
    )


def frame_of(recipe: Effective) -> dict[str, Any]:
    """Base, dtypes, tokenizer and chat template as in the recipe."""
    base = recipe.base if recipe.names_base else None
    frame = dict(recipe.frame)
    if "dtype" in frame:
        frame.setdefault("out_dtype", frame["dtype"])
    return {**({} if base is None else {"base_model": base.in_recipe}), **frame}


def model_entry(model: ModelName) -> Any:
    """A model without settings of its own."""
    return model.in_recipe if isinstance(model.in_recipe, str) else {"model": model.in_recipe}


def _joined(groups: Iterable[Settings]) -> dict[str, Entries]:
    """Settings of several groups of layers, each entry with the values of all groups."""
    values: dict[str, dict[str | None, list[Any]]] = {}
    for settings in groups:
        for name, entries in settings.items():
            for entry in entries:
                values.setdefault(name, {}).setdefault(entry.filter, []).append(entry.value)
    return {
        name: tuple(_entry(text, by_filter[text]) for text in sorted(by_filter, key=_default_last))
        for name, by_filter in values.items()
    }


def _default_last(text: str | None) -> bool:
    return text is None


def _entry(text: str | None, values: list[Any]) -> ParameterEntry:
    if all(value == values[0] for value in values):
        return ParameterEntry(text, values[0])
    return ParameterEntry(text, [v for value in values for v in ParameterEntry(text, value).values])


def _bounds(name: str, own: Iterable[Settings]) -> Mapping[str, Span]:
    if not name.startswith("della"):
        return {}
    given = list(own)
    return della_bounds(
        [settings["density"] for settings in given if "density" in settings],
        [settings["epsilon"] for settings in given if "epsilon" in settings],
    )


def _held(own: Mapping[ModelName, Settings]) -> ModelName | None:
    """The model whose weight stays, where the common scale of the weights changes nothing."""
    weights = {model: given["weight"] for model, given in own.items() if "weight" in given}
    return list(weights)[strongest(list(weights.values()))] if weights else None

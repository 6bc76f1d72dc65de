"""A recipe -> the `genome:` block of a search that begins at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.genome.models import ModelName
from evomerge.recipe.effective import Effective, Entries
from evomerge.recipe.ranges import della_room, fixed, opened, strongest


def has_numbers(recipe: Effective) -> bool:
    """Whether the method has a number to search at all."""
    return any(parameter.range is not None for parameter in recipe.method.live_parameters)


def opened_block(recipe: Effective) -> dict[str, Any]:
    """What may vary: every number of the recipe, in a range around it.

    Args:
        recipe: A recipe of whole models.
    """
    method, room = recipe.method, _room(recipe)
    held = _held(recipe)
    block: dict[str, Any] = {"models": [], "merge_method": method.name}
    for model in recipe.models:
        own = recipe.own.get(model, {})
        parameters = {
            name: fixed(entries)
            if name == "weight" and model == held
            else opened(method, method.parameter(name), entries, room.get(name))
            for name, entries in own.items()
        }
        entry = {"model": model.in_recipe, **({"parameters": parameters} if parameters else {})}
        block["models"].append(entry if parameters else model_entry(model))
    shared = {
        name: opened(method, method.parameter(name), entries, room.get(name))
        for name, entries in recipe.shared.items()
    }
    block |= {"parameters": shared} if shared else {}
    return {**block, **frame_of(recipe), "granularity": "model"}


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


def _room(recipe: Effective) -> Mapping[str, Any]:
    if not recipe.method.name.startswith("della"):
        return {}
    own = list(recipe.own.values())
    return della_room(
        [given["density"] for given in own if "density" in given],
        [given["epsilon"] for given in own if "epsilon" in given],
    )


def _held(recipe: Effective) -> ModelName | None:
    """The model whose weight stays, where the common scale of the weights changes nothing."""
    key = recipe.method.normalized_by
    if key is None:
        return None
    shared: Entries = recipe.shared.get(key, ())
    if key != "always" and not any(value for entry in shared for value in entry.values):
        return None
    weights = {m: own["weight"] for m, own in recipe.own.items() if "weight" in own}
    return list(weights)[strongest(list(weights.values()))] if weights else None

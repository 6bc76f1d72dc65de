"""The members of a mixture on disk, each a folder that transformers loads by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evomerge.foundations.reading import is_folder
from evomerge.merging.built import build_into
from evomerge.merging.hub_cache import reachable
from evomerge.merging.pickled import refuse_pickles
from evomerge.recipe.plain import Recipe


def member_folders(recipe: Recipe, beside: Path, **options: Any) -> list[Path]:
    """A folder for each member: the model's own, or what mergekit builds of it.

    Args:
        recipe: Of a mixture.
        beside: Where members are built.
        options: Of :func:`evomerge.merging.build.build`.

    Raises:
        RunError: mergekit stopped.
        ModelError: a model has its weights in pickle files.
    """
    found = []
    for number, one in enumerate(map(Recipe, recipe.documents)):
        folder = _own_folder(one)
        if folder is None:
            folder = beside / f"member-{number}"
            build_into(one, folder, **options)
        else:
            refuse_pickles(one, options.get("allow_pickle", ()))
        found.append(folder)
    return found


def _own_folder(member: Recipe) -> Path | None:
    """That of a model which is a member as it is."""
    if member.methods != ("passthrough",) or set(member.config) != {"merge_method", "models"}:
        return None
    [model] = reachable(member).models
    return Path(model.path) if model.lora is None and is_folder(model.path) else None

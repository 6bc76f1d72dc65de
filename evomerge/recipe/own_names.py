"""Names of what a run keeps in its own folder -> where that is; nobody else resolves them.

A recipe of a run names a trained model, or a sum of adapters, by its place below the run folder,
so that the folder can be moved; what an earlier stage of the same run keeps is ``../STAGE/`` and
the name there. The names end in a digest of what they hold: the same name is the same in any run,
and no Hub id.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from evomerge.genome.model_names import ModelName
from evomerge.recipe.plain import Recipe

TRAINED = "optimizer/columns"
SUM = "adapters/factors-"
_DIGEST = r"[0-9a-f]{16}"
_HERE = re.compile(rf"{TRAINED}/{_DIGEST}/model|{SUM}{_DIGEST}")
_OWN = re.compile(rf"(?:\.\./[A-Za-z0-9_-]+/)?(?:{_HERE.pattern})")  # of a stage, or beside it
_SUM = re.compile(rf"(?:.*/)?{SUM}{_DIGEST}", re.DOTALL)


def located(recipe: Recipe, run_dir: Path | None) -> Recipe:
    """A recipe that means the same anywhere: what is of the run's own has its full path.

    Args:
        recipe: Of a run; any other is given back as it is.
        run_dir: The run folder; None: where the process is.
    """
    return recipe if run_dir is None else _with_names(recipe, lambda name: place(name, run_dir))


def in_places(recipe: Recipe, places: Mapping[str, str]) -> Recipe:
    """A recipe whose models and adapters are read elsewhere.

    Args:
        recipe: Any.
        places: Path of a folder -> where the same files are.
    """
    return _with_names(recipe, lambda name: places.get(os.path.normpath(name), name))


def from_beside(recipe: Recipe, stage: str) -> Recipe:
    """A recipe of one stage as its neighbours name what it keeps.

    Args:
        recipe: Of the stage, as its ledger has it.
        stage: Name of its run folder.
    """
    return _with_names(recipe, lambda name: f"../{stage}/{name}" if _HERE.fullmatch(name) else name)


def _with_names(recipe: Recipe, named: Callable[[str], str]) -> Recipe:
    """A recipe with other names of models and adapters; the same object where none is another."""

    def renamed(model: ModelName) -> ModelName:
        path, lora = named(model.path), model.lora and named(model.lora)
        return model.model_copy(update={"path": path, "lora": lora})

    is_as_it_was = all(renamed(model) == model for model in recipe.models)
    return recipe if is_as_it_was else recipe.with_models(renamed)


def place(name: str, run_dir: Path) -> str:
    """The full path of what is of the run's own; any other name as it is."""
    return os.path.normpath(run_dir.absolute() / name) if _OWN.fullmatch(name) else name


def without_own(model: ModelName) -> ModelName | None:
    """A model without an adapter that is of the run's own; None where it is so itself.

    What such a name holds is in its digest.
    """
    if _OWN.fullmatch(model.path):
        return None
    if model.lora is None or not _OWN.fullmatch(model.lora):
        return model
    return model.model_copy(update={"lora": None, "lora_revision": None})


def of_trained(name: str) -> Recipe:
    """The recipe that gives back a trained model."""
    models = [{"model": ModelName(path=name).in_recipe}]
    return Recipe({"merge_method": "passthrough", "models": models})


def names_sum(model: ModelName) -> bool:
    """Whether its adapter has the name of a sum, with or without its full path."""
    return _SUM.fullmatch(model.lora or "") is not None

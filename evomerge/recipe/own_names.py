"""Names of what a run keeps in its own folder -> where that is; nobody else resolves them.

A recipe of a run names a trained model, or a sum of adapters, by its place below the run folder,
so that the folder can be moved. The names end in a digest of what they hold: the same name is the
same in any run, and no Hub id.
"""

from __future__ import annotations

import re
from pathlib import Path

from evomerge.genome.model_names import ModelName
from evomerge.recipe.plain import Recipe

TRAINED = "optimizer/columns"
SUM = "adapters/factors-"
_DIGEST = r"[0-9a-f]{16}"
_OWN = re.compile(rf"{TRAINED}/{_DIGEST}/model|{SUM}{_DIGEST}")
_SUM = re.compile(rf"(?:.*/)?{SUM}{_DIGEST}", re.DOTALL)


def located(recipe: Recipe, run_dir: Path | None) -> Recipe:
    """A recipe that means the same anywhere: what is of the run's own has its full path.

    Args:
        recipe: Of a run; any other is given back as it is.
        run_dir: The run folder; None: where the process is.
    """
    if run_dir is None or not any(map(_is_own, recipe.models)):
        return recipe

    def at(model: ModelName) -> ModelName:
        path, lora = place(model.path, run_dir), model.lora and place(model.lora, run_dir)
        return model.model_copy(update={"path": path, "lora": lora})

    return recipe.with_models(at)


def place(name: str, run_dir: Path) -> str:
    """The full path of what is of the run's own; any other name as it is."""
    return str(run_dir.absolute() / name) if _OWN.fullmatch(name) else name


def of_trained(name: str) -> Recipe:
    """The recipe that gives back a trained model."""
    models = [{"model": ModelName(path=name).in_recipe}]
    return Recipe({"merge_method": "passthrough", "models": models})


def names_sum(model: ModelName) -> bool:
    """Whether its adapter has the name of a sum, with or without its full path."""
    return _SUM.fullmatch(model.lora or "") is not None


def _is_own(model: ModelName) -> bool:
    return any(_OWN.fullmatch(name) for name in (model.path, model.lora) if name)

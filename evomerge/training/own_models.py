"""Models that a run wrote into its own folder, named so that the folder can be moved.

Their names end in a digest of what they hold: the same name is the same model in any run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from evomerge.genome.model_names import ModelName
from evomerge.recipe.plain import Recipe

_NAME = re.compile(r"optimizer/columns/[0-9a-f]{16}/model")  # below a run folder; no Hub id


def recipe_of(name: str) -> dict[str, Any]:
    """The recipe that gives back a checkpoint."""
    model = ModelName(path=name).in_recipe
    return {"merge_method": "passthrough", "models": [{"model": model}]}


def located(recipe: Recipe, run_dir: Path | None) -> Recipe:
    """A recipe that builds anywhere: a model of the run's own is named by its full path.

    Args:
        recipe: Of a run; any other is given back as it is.
        run_dir: The run folder; None: where the process is.
    """
    match recipe.config.get("models"):
        case [{"model": str(name)}, *_] if run_dir is not None and _NAME.fullmatch(name):
            return Recipe(recipe_of(str(run_dir.absolute() / name)))
    return recipe

"""No code that models bring, where a command of mergekit would run it unasked.

transformers runs it only where it is told to trust it, which evomerge tells it by permission
alone; a command that says so itself gets no model that has some.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from evomerge.foundations.errors import ModelError, Problem
from evomerge.genome.model_names import ModelName
from evomerge.models.repository import open_repository
from evomerge.recipe.plain import Recipe

_FILES = ("config.json", "tokenizer_config.json")
_KEYS = ("auto_map", "configuration_files")  # which module is imported; where else that may stand


def refuse_code(recipe: Recipe) -> None:
    """Looks at the settings of every model that a recipe names, those that give tokens too.

    Raises:
        ModelError: its commands run code unasked, and models have some, all such at once; or the
            files cannot be reached.
    """
    if recipe.runs_code:
        problems = [one for model in recipe.named for one in _with_code(model, recipe.program)]
        if problems:
            raise ModelError.of(problems)


def _with_code(model: ModelName, program: str) -> Iterator[Problem]:
    files = open_repository(model.path, model.revision)
    for name in (one for one in _FILES if one in files.files):
        try:
            settings = json.loads(files.read(name))
        except (RecursionError, ValueError) as error:
            what = f"{model.path}: {name} is no JSON ({error})"
            yield Problem(what, "merge", "Mend it, or download the model again.")
            continue
        for key in _KEYS if isinstance(settings, dict) else ():
            if settings.get(key):
                yield Problem(
                    f"{model.path} may bring Python code of its own ({key} in {name}), which"
                    f" {program} would run unasked",
                    "merge",
                    "Read that code; if you trust it add --trust-remote-code.",
                )

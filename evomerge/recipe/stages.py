"""Files that hold several recipes: the stages of mergekit-multi."""

from __future__ import annotations

from pathlib import Path

from evomerge.foundations.errors import GenomeError
from evomerge.foundations.reading import is_folder
from evomerge.genome.source import Source, read_documents
from evomerge.recipe.walk import models_in


def read_recipe(path: Path) -> Source:
    """A recipe's file; of several stages the last, which makes the model that is wanted.

    Raises:
        GenomeError: it cannot be read, a stage has no text for a name, or the last one merges what
            others are yet to make.
    """
    documents = read_documents(path)
    filled = [one for one in documents if one.data is not None]  # a --- at the end begins none
    *before, last = filled or documents[-1:]
    names = set(filter(None, map(_name, before)))
    made = {model.path for model in models_in(last.data)} if before else set()
    missing = sorted(name for name in made & names if not is_folder(name))
    if missing:
        raise GenomeError(
            f"holds {len(before) + 1} stages of mergekit-multi, and the last merges what others "
            f"make: {', '.join(missing)}",
            where=last.where(()),
            fix="Build those with mergekit-multi and put the last stage, with their folders, "
            "into a file of its own; or give a file with one of the stages before.",
        )
    return last


def _name(stage: Source) -> str | None:
    name = stage.data.get("name") if isinstance(stage.data, dict) else None
    if name is None or isinstance(name, str):
        return name
    raise GenomeError(
        f"the name of a stage is {name!r}, expected a text",
        where=stage.where(("name",)),
        fix="Put it in quotation marks, or correct it.",
    )

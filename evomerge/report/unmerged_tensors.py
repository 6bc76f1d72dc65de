"""What the tensors of a recipe's models become, in sentences, where the models are folders here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache

from evomerge.foundations.counted import counted
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.reading import is_folder
from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts
from evomerge.models.inspect import read_model
from evomerge.recipe.accounting import accounts_of
from evomerge.recipe.left_files import left_files_of
from evomerge.recipe.plain import Recipe

_KEPT = 64  # models; a report is written after every trial


def tensor_sentences(recipe: Recipe) -> Iterator[str]:
    """How many tensors are merged, then those that are not, and files that are not copied.

    Nothing of models that are not here.
    """
    models = models_here(recipe.models)
    accounts = [*accounts_of(recipe, models)]
    if accounts:
        n_merged = sum(len(account.merged) for account in accounts)
        n_adapters = sum(account.is_adapter for account in accounts)
        of = counted(len(accounts) - n_adapters, "model")
        of += f" and {counted(n_adapters, 'adapter')}" if n_adapters else ""
        done = "used" if recipe.unbuilt else "merged"
        yield f"{counted(n_merged, 'tensor')} of {of} {done}"
    for account in accounts:
        yield from account.sentences
    for left in left_files_of(recipe, models):
        yield f"{left.sentence}. Copy it into the folder."


def models_here(names: Iterable[ModelName]) -> list[ModelFacts]:
    """What the files of those of some models say that are folders here."""
    found = []
    for name in names:
        if all(is_folder(path) for path in name.places):
            facts = _facts(name, tuple(map(os.path.getmtime, name.places)), os.getcwd())
            found += [] if facts is None else [facts]
    return found


@lru_cache(_KEPT)
def _facts(name: ModelName, changed: tuple[float, ...], here: str) -> ModelFacts | None:
    """What a model's files say; None where it cannot be read.

    Args:
        name: The model.
        changed: When anything was put into its folders.
        here: What its name begins at.
    """
    try:
        return read_model(name)
    except EvomergeError:
        return None  # an export is made of a ledger, whatever became of the models

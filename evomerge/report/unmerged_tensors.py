"""What the tensors of a recipe's models become, in sentences, where the models are folders here."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.foundations.counted import counted
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.reading import is_folder
from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts
from evomerge.models.inspect import read_model
from evomerge.recipe.left_files import left_files_of
from evomerge.recipe.plain import Recipe
from evomerge.recipe.tensor_account import accounts_of


def tensor_sentences(recipe: Recipe) -> Iterator[str]:
    """How many tensors are merged, then those that are not, and files that are not copied.

    Nothing of models that are not here.
    """
    models = [*_here(recipe)]
    accounts = [*accounts_of(recipe, models)]
    if accounts:
        n_merged = sum(len(account.merged) for account in accounts)
        n_models = counted(len(accounts), "model")
        yield f"{counted(n_merged, 'tensor')} of {n_models} merged"
    for account in accounts:
        yield from account.sentences
    for left in left_files_of(recipe, models):
        yield f"{left.sentence}. Copy it into the folder."


def _here(recipe: Recipe) -> Iterator[ModelFacts]:
    for name in recipe.models:
        if all(is_folder(path) for path in _folders(name)):
            try:
                yield read_model(name)
            except EvomergeError:
                continue  # an export is made of a ledger, whatever became of the models


def _folders(name: ModelName) -> Iterator[str]:
    yield name.path
    if name.lora is not None:
        yield name.lora

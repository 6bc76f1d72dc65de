"""What the tensors of a recipe's models become, in sentences, and of which models nobody can tell.

Models are read where they are folders, or whole in the Hub's cache; nothing is asked of the Hub.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from evomerge.foundations.counted import counted
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.reading import is_folder
from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts
from evomerge.models.inspect import read_model
from evomerge.models.repository import cached_snapshot, has_all_weights
from evomerge.recipe.accounting import accounts_of, unaccounted
from evomerge.recipe.left_files import left_files_of
from evomerge.recipe.plain import Recipe
from evomerge.recipe.tensor_account import TensorAccount

_KEPT = 64  # models; a report is written after every trial
_NOT_HERE = "neither a folder here nor whole in the Hub's cache"


@dataclass(frozen=True)
class Accounts:
    """Where the tensors of some models go.

    Attributes:
        known: One for each model and adapter that could be read.
        models: What the files of these say.
        unknown: Model -> why nobody can tell here.
    """

    known: tuple[TensorAccount, ...]
    models: tuple[ModelFacts, ...]
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentences(self) -> Iterator[str]:
        """What is not merged, then what is not known, each reason by reason."""
        for account in self.known:
            yield from account.sentences
        for why in dict.fromkeys(self.unknown.values()):
            names = [name for name, its in self.unknown.items() if its == why]
            yield f"tensors of {', '.join(names)} are not counted: {why}"


def tensor_sentences(recipe: Recipe) -> Iterator[str]:
    """How many tensors are merged, then those that are not, and files that are not copied."""
    # By name: a recipe names its base after or before the models, as its file was written.
    found = accounts_here(recipe, sorted(recipe.models, key=lambda name: name.text))
    if found.known:
        n_merged = sum(len(account.merged) for account in found.known)
        n_adapters = sum(account.is_adapter for account in found.known)
        of = counted(len(found.known) - n_adapters, "model")
        of += f" and {counted(n_adapters, 'adapter')}" if n_adapters else ""
        done = "used" if recipe.unbuilt else "merged"
        yield f"{counted(n_merged, 'tensor')} of {of} {done}"
    yield from found.sentences
    for left in left_files_of(recipe, found.models):
        yield f"{left.sentence}. Copy it into the folder."


def accounts_here(recipe: Recipe, names: Iterable[ModelName]) -> Accounts:
    """Where the tensors of some models go in a recipe, as far as this machine has their files."""
    models: list[ModelFacts] = []
    unknown: dict[str, str] = {}
    for name in dict.fromkeys(names):
        facts = _read(name)
        why = facts if isinstance(facts, str) else unaccounted(facts)
        if why:
            unknown[name.text] = why
        if not isinstance(facts, str):
            models.append(facts)
    return Accounts(tuple(accounts_of(recipe, models)), tuple(models), unknown)


def _read(name: ModelName) -> ModelFacts | str:
    """What a model's files say; why they do not, where they cannot be read here."""
    folder = _folder(name.path, name.revision)
    if folder is None:
        return _NOT_HERE
    lora = _folder(name.lora, name.lora_revision) if name.lora else folder
    if lora is None:
        return f"{name.lora} is {_NOT_HERE}"
    return _facts(name, tuple(map(os.path.getmtime, (folder, lora))), os.getcwd())


def _folder(path: str, revision: str | None) -> Path | None:
    """Where its files are on this machine."""
    if is_folder(path):
        return Path(path)
    found = cached_snapshot(path, revision)
    return found if found is not None and has_all_weights(found) else None


@lru_cache(_KEPT)
def _facts(name: ModelName, changed: tuple[float, ...], here: str) -> ModelFacts | str:
    """What a model's files say; why they cannot be read, where that is so.

    Args:
        name: The model.
        changed: When anything was put into its folders.
        here: What its name begins at.
    """
    try:
        return read_model(name)
    except EvomergeError as error:  # an export is made of a ledger, whatever became of the models
        return error.problems[0].what

"""What the tensors of a recipe's models become, in sentences, and of which models nobody can tell.

Models are read where they are folders, or whole in the Hub's cache; nothing is asked of the Hub.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from evomerge.foundations.counted import counted
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.reading import is_folder
from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts
from evomerge.models.inspect import read_model
from evomerge.models.repository import cached_snapshot, has_all_weights
from evomerge.recipe.accounting import accounts_of
from evomerge.recipe.left_files import left_files_of
from evomerge.recipe.plain import Recipe
from evomerge.recipe.tensor_account import TensorAccount

_KEPT = 64  # models; a report is written after every trial
_IN_CACHE: dict[tuple[str, str | None], str] = {}  # of the Hub -> its folder


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
        """What is not merged, reason by reason, then what is not known."""
        for account in self.known:
            yield from account.sentences
        for name, why in self.unknown.items():
            yield f"the tensors of {name} are not counted: {why}"


def tensor_sentences(recipe: Recipe) -> Iterator[str]:
    """How many tensors are merged, then those that are not, and files that are not copied."""
    found = accounts_here(recipe, recipe.models)
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
        if isinstance(facts, str):
            unknown[name.text] = facts
        else:
            models.append(facts)
    known = tuple(accounts_of(recipe, models))
    counted_ = {account.model for account in known}
    for model in models:
        if model.name not in counted_:
            unknown[model.name] = f"mergekit has no definition of {model.architecture or 'it'}"
    return Accounts(known, tuple(models), unknown)


def _read(name: ModelName) -> ModelFacts | str:
    """What a model's files say; why they do not, where they cannot be read here."""
    places = ((name.path, name.revision), *([(name.lora, name.lora_revision)] if name.lora else ()))
    folders = [_folder(path, revision) for path, revision in places]
    if not all(folders):
        missing = next(p for (p, _), folder in zip(places, folders, strict=True) if not folder)
        return f"{missing} is no folder here, nor whole in the Hub's cache"
    return _facts(name, tuple(map(os.path.getmtime, folders)), os.getcwd())


def _folder(path: str, revision: str | None) -> str:
    """Where its files are on this machine; empty where they are not."""
    if is_folder(path):
        return path
    key = path, revision
    if key not in _IN_CACHE:
        found = cached_snapshot(path, revision)
        if found is None or not has_all_weights(found):
            return ""
        _IN_CACHE[key] = str(found)
    return _IN_CACHE[key]


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

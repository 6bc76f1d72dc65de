"""What earlier stages found: in a recipe the merges that make it, in memory the built folder.

A ledger holds the whole way to a model, so that its recipe builds anywhere. Whoever merges it on
the machine of the run reads what is built already.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from evomerge.foundations.canonical import digest
from evomerge.genome.model_names import ModelName
from evomerge.recipe.base import Document
from evomerge.recipe.plain import Recipe
from evomerge.recipe.stage_names import multi_config, stage_name
from evomerge.recipe.walk import with_models

Made = Mapping[str, Recipe]  # folder of a built model -> what it was built from
_OF_A_COPY = {"merge_method", "models", "dtype", "out_dtype"}


def stage_in(folder: str) -> str:
    """What people call a model that a stage made, wherever the run folder is."""
    return f"stage {PurePath(folder).name}"


def unfolded(recipe: Recipe, made: Made) -> Recipe:
    """A recipe whose models are all sources: what was made before is a stage of it.

    A recipe that only gives back what was made is the recipe of that.
    """
    used = [model.path for model in recipe.named if model.path in made]
    if not used:
        return recipe
    whole = made.get(_copied(recipe) or "")
    if whole is not None and _is_exact(recipe, whole):
        return whole
    stages: list[Document] = []
    names: dict[str, str] = {}
    for path in used:
        *_, own = _renamed(made[path], {}, stages)
        name = _place(stages, own)
        if name in names.values():  # found twice: mergekit takes no model twice by one name
            stages.append(own)
            name = stage_name(len(stages) - 1)
        names[path] = name
    *_, last = _renamed(recipe, names, stages)
    return Recipe(multi_config([*stages, last]))


def folded(recipe: Recipe, made: Made) -> Recipe:
    """The same recipe with what was built already in the place of the stages that make it."""
    if not made:
        return recipe
    known: dict[str, list[str]] = {}
    for path, one in made.items():
        known.setdefault(_contents(one)[-1], []).append(path)
    *before, last_content = _contents(recipe)
    if last_content in known:
        path = known[last_content][0]
        return _copy(path, made[path])
    there: dict[str, str] = {}
    for name, content in zip(recipe.made, before, strict=True):
        if content in known:
            free = [path for path in known[content] if path not in there.values()]
            there[name] = (free or known[content])[0]
    if not there:
        return recipe
    stages: list[Document] = []
    *_, last = _renamed(recipe, {}, stages, there)
    return Recipe(multi_config([*stages, last]) if stages else dict(last))


def _copied(recipe: Recipe) -> str | None:
    """The folder that a recipe gives back as it is; None where it does something to it."""
    config = recipe.config
    if config.get("merge_method") != "passthrough" or set(config) - _OF_A_COPY:
        return None
    entries = config.get("models") or []
    if len(entries) != 1 or set(entries[0]) != {"model"}:
        return None
    return recipe.models[0].path


def _is_exact(copy: Recipe, made: Recipe) -> bool:
    """Whether a copy keeps every bit: nothing is rounded on its way."""
    if made.dtype is None or copy.dtype != made.dtype:
        return False
    return copy.config.get("dtype", made.dtype) in (made.dtype, "float32")


def _copy(path: str, made: Recipe) -> Recipe:
    dtype = {} if made.dtype is None else {"dtype": made.dtype}
    models = [{"model": ModelName(path=path).in_recipe}]
    return Recipe({"merge_method": "passthrough", "models": models, **dtype})


def _renamed(
    recipe: Recipe,
    names: Mapping[str, str],
    stages: list[Document],
    there: Mapping[str, str] | None = None,
) -> list[Document]:
    """The documents of a recipe with other names, all but the last added to the stages.

    Args:
        recipe: Whose documents.
        names: Models -> what they are called from now on.
        stages: What there is already; a document that is among them is not added again.
        there: Models made on the way -> the folders they are in; what only they need is left out.
    """
    named, found = {**names, **(there or {})}, []
    needed = _needed(recipe, there or {})

    def called(model: ModelName) -> ModelName:
        return model.model_copy(update={"path": named.get(model.path, model.path)})

    for index, document in enumerate(recipe.documents):
        if index not in needed:
            continue
        changed: Any = with_models(document, called)
        found.append(changed)
        if index < len(recipe.made):
            named[recipe.made[index]] = _place(stages, changed)
    return found


def _needed(recipe: Recipe, there: Mapping[str, str]) -> set[int]:
    """Numbers of the documents that the last one needs, itself among them."""
    documents, numbers = recipe.documents, {name: i for i, name in enumerate(recipe.made)}
    found, waiting = set(), [len(documents) - 1]
    while waiting:
        index = waiting.pop()
        found.add(index)
        names = {model.path for model in Recipe(documents[index]).named} - there.keys()
        waiting += [numbers[name] for name in names & numbers.keys()]
    return found


def _place(stages: list[Document], document: Document) -> str:
    """The name of what a document makes, added to the stages where it is not among them."""
    if document not in stages:
        stages.append(document)
    return stage_name(stages.index(document))


def _contents(recipe: Recipe) -> list[str]:
    """For each document a digest of what it makes, whatever its stages are called."""
    known: dict[str, str] = {}
    found = []

    def made(model: ModelName) -> ModelName:
        return model.model_copy(update={"path": known.get(model.path, model.path)})

    for index, document in enumerate(recipe.documents):
        found.append(digest(with_models(document, made)))
        if index < len(recipe.made):
            known[recipe.made[index]] = f"made:{found[-1]}"
    return found

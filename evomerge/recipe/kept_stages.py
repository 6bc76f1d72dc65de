"""What earlier stages found: in a recipe the merges that make it, in memory the built folder.

A ledger holds the whole way to a model, so that its recipe builds anywhere. Whoever merges it on
the machine of the run reads what is built already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.foundations.canonical import digest
from evomerge.genome.model_names import ModelName
from evomerge.recipe.base import Document
from evomerge.recipe.multi import multi_config, stage_name
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import with_models

Made = Mapping[str, Recipe]  # folder of a built model -> what it was built from
_OF_A_COPY = {"merge_method", "models", "dtype", "out_dtype"}


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
    names = {path: _joined(stages, made[path], {}) for path in used}
    *_, last = _renamed(recipe, names, stages)
    return Recipe(multi_config([*stages, last]))


def folded(recipe: Recipe, made: Made) -> Recipe:
    """The same recipe with what was built already in the place of the stages that make it."""
    if not made:
        return recipe
    known = {_contents(one)[-1]: path for path, one in made.items()}
    contents = _contents(recipe)
    if contents[-1] in known:
        return _copy(known[contents[-1]], made[known[contents[-1]]])
    there = {
        name: known[content]
        for name, content in zip(recipe.made, contents, strict=False)
        if content in known
    }
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
    entries = config.get("models") or ()
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


def _joined(stages: list[Document], recipe: Recipe, names: Mapping[str, str]) -> str:
    """Adds the merges of a recipe that are not among the stages yet; the name of its model."""
    *_, last = _renamed(recipe, names, stages)
    return _place(stages, last)


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

"""What earlier stages found: in a recipe the merges that make it, in memory the built folder.

A ledger holds the whole way to a model, so that its recipe builds anywhere. Whoever merges it on
the machine of the run reads what is built already.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType

from evomerge.foundations.canonical import digest
from evomerge.genome.model_names import ModelName
from evomerge.recipe.base import Document
from evomerge.recipe.plain import Recipe
from evomerge.recipe.stage_names import stage_name
from evomerge.recipe.walk import named_in, with_models

Made = Mapping[str, Recipe]  # folder of a built model -> what it was built from


def stage_in(folder: str) -> str:
    """What people call a model that was made before, wherever the run folder is."""
    name = PurePath(folder).name
    return f"recipe {name}" if "." in name else f"stage {name}"  # no stage has a point in its name


def unfolded(recipe: Recipe, made: Made) -> Recipe:
    """A recipe whose models are all sources: what was made before is a stage of it.

    A recipe that only gives back what was made is the recipe of that.
    """
    used = [model.path for model in recipe.named if model.path in made]
    if not used:
        return recipe
    model = recipe.copied
    whole = None if model is None else made.get(model.path)
    if whole is not None and _is_exact(recipe, whole):
        return whole
    stages: list[Document] = []
    names: dict[str, str] = {}
    for path in used:
        own = _renamed(made[path], {}, stages, shares=True)
        name = _place(stages, own)
        if name in names.values():  # found twice: mergekit takes no model twice by one name
            name = _added(stages, own)
        names[path] = name
    last = _renamed(recipe, names, stages)
    return recipe.of_parts(stages, last)


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
    for index, content in enumerate(before):
        if content in known:
            free = [path for path in known[content] if path not in there.values()]
            there[stage_name(index)] = (free or known[content])[0]
    if not there:
        return recipe
    stages: list[Document] = []
    last = _renamed(recipe, {}, stages, there)
    return recipe.of_parts(stages, last)


def _is_exact(copy: Recipe, made: Recipe) -> bool:
    """Whether a copy keeps every bit: nothing is rounded on its way."""
    if made.dtype is None or copy.dtype != made.dtype:
        return False
    return copy.parts[1].get("dtype", made.dtype) in (made.dtype, "float32")


def _copy(path: str, made: Recipe) -> Recipe:
    dtype = {} if made.dtype is None else {"dtype": made.dtype}
    models = [{"model": ModelName(path=path).in_recipe}]
    return Recipe({"merge_method": "passthrough", "models": models, **dtype})


def _renamed(
    recipe: Recipe,
    names: Mapping[str, str],
    stages: list[Document],
    there: Mapping[str, str] = MappingProxyType({}),
    *,
    shares: bool = False,
) -> Document:
    """What makes the model of a recipe, with other names; the merges before it join the stages.

    Args:
        recipe: Whose parts.
        names: Models -> what they are called from now on.
        stages: What there is already.
        there: Models made on the way -> the folders they are in; what only they need is left out.
        shares: Whether a document that is among the stages is not added again. Experts of one
            recipe are several, be they equal or not.
    """
    named = {**names, **there}
    before, last = recipe.parts
    needed = _needed(recipe, there)
    for index, document in enumerate(before):
        if stage_name(index) in needed:
            own = _called(document, named)
            named[stage_name(index)] = _place(stages, own) if shares else _added(stages, own)
    return _called(last, named)


def _called(document: Document, names: Mapping[str, str]) -> Document:
    """A document that calls models by other names."""

    def called(model: ModelName) -> ModelName:
        return model.model_copy(update={"path": names.get(model.path, model.path)})

    changed: Document = with_models(document, called)
    return changed


def _needed(recipe: Recipe, there: Mapping[str, str]) -> set[str]:
    """Names of the models made on the way that what makes its model needs."""
    before, last = recipe.parts
    documents = {stage_name(index): document for index, document in enumerate(before)}
    found: set[str] = set()
    waiting = [last]
    while waiting:
        for model in named_in(waiting.pop()):
            if model.path in documents and model.path not in found | there.keys():
                found.add(model.path)
                waiting.append(documents[model.path])
    return found


def _place(stages: list[Document], document: Document) -> str:
    """The name of what a document makes, added to the stages where it is not among them."""
    if document in stages:
        return stage_name(stages.index(document))
    return _added(stages, document)


def _added(stages: list[Document], document: Document) -> str:
    """The name of what a document makes, added to the stages."""
    stages.append(document)
    return stage_name(len(stages) - 1)


def _contents(recipe: Recipe) -> list[str]:
    """For each part a digest of what it makes, whatever its stages are called."""
    known: dict[str, str] = {}
    before, last = recipe.parts
    for index, document in enumerate(before):
        known[stage_name(index)] = f"made:{digest(_called(document, known))}"
    return [*known.values(), f"made:{digest(_called(last, known))}"]

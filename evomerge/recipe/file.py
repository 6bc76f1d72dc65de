"""A recipe's file -> its documents -> the recipe; what mergekit ignores of it is told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.errors import GenomeError, Problem
from evomerge.foundations.findings import Finding, note, warning
from evomerge.foundations.reading import is_file, is_folder
from evomerge.genome.model_names import ModelName
from evomerge.genome.source import read_documents
from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe import RECIPE_KINDS
from evomerge.recipe.base import Hear, RecipeKind
from evomerge.recipe.keys import Ignored, ignored_keys, without
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import models_in, named_in

_RECIPE_FILES = (".yml", ".yaml")


def stands_for_recipe(model: ModelName) -> bool:
    """Whether what stands in a model's place is the name of a recipe's file, be it there or not."""
    is_alone = model.lora is None and model.revision is None and not model.is_stage
    return is_alone and model.path.endswith(_RECIPE_FILES) and not is_folder(model.path)


def documents_of(path: Path) -> list[YamlFile]:
    """What a file holds, one or several documents; a --- at its end begins none.

    Where a document has another recipe's file in a model's place, that recipe stands before it, a
    stage of that name.

    Raises:
        GenomeError: it cannot be read.
    """
    documents = _own_documents(path)
    return [*_merged_files(documents, (str(path),)), *documents]


def _own_documents(path: Path) -> list[YamlFile]:
    documents = read_documents(path)
    return [one for one in documents if one.data is not None] or documents[-1:]


def _merged_files(documents: Iterable[YamlFile], above: tuple[str, ...]) -> Iterator[YamlFile]:
    """The recipes whose files documents merge, each after those that it merges itself, once."""
    found: dict[str, YamlFile] = {}
    for document in documents:
        for name in dict.fromkeys(model.path for model in named_in(document.data)):
            if not name.endswith(_RECIPE_FILES) or not is_file(Path(name)):
                continue
            if name in above:
                what = f"recipes need each other: {' -> '.join((*above, name))}"
                fix = "Let each merge models, or what others make that do not merge it."
                raise GenomeError(what, where=document.where(()), fix=fix)
            own = _own_documents(Path(name))
            if len(own) > 1 or not isinstance(own[0].data, dict):
                what = (
                    f"{name} stands for a model and holds {len(own)} documents, expected one recipe"
                )
                fix = "Name a file with one recipe; let it name the files of others."
                raise GenomeError(what, where=document.where(()), fix=fix)
            found |= {one.data["name"]: one for one in _merged_files(own, (*above, name))}
            found[name] = replace(own[0], data={**own[0].data, "name": name})
    yield from found.values()


def recipe_of(documents: Sequence[YamlFile], hear: Hear) -> Recipe:
    """The recipe that a file holds, of whatever kind.

    Args:
        documents: What the file holds.
        hear: Takes a finding about every key that mergekit ignores.

    Raises:
        GenomeError: it is no recipe, or has keys that are known ones misspelt.
    """
    kinds: Iterable[type[RecipeKind]] = RECIPE_KINDS.values()
    kind = next(kind for kind in kinds if kind.takes(documents))
    return Recipe(kind.read(documents, hear))


def stage_names(stages: Iterable[YamlFile]) -> frozenset[str]:
    """What a file of several documents calls the models that they make.

    Raises:
        GenomeError: one has no text for a name.
    """
    return frozenset(filter(None, map(_name, stages)))


def used_names(stage: YamlFile, names: Collection[str]) -> set[str]:
    """The names of other stages whose models a stage merges, or takes its tokens from.

    Raises:
        GenomeError: something stands in a model's place that names none.
    """
    if not names:
        return set()
    merged = list(models_in(stage.data))  # looks at all of them, and refuses
    return {model.path for model in (*merged, *named_in(stage.data))} & set(names)


def recipe_config(source: YamlFile, hear: Hear) -> dict[str, Any]:
    """What mergekit reads of a document.

    Args:
        source: The document.
        hear: Takes a finding about every key that mergekit ignores: a warning, or a note where
            such a key is common. Helpers, whose anchors are used elsewhere, are not told.

    Raises:
        GenomeError: it is no recipe, or has keys that are known ones misspelt.
    """
    content, file = source.data, Path(source.name)
    if not isinstance(content, dict) or "merge_method" not in content:
        raise GenomeError(
            f"{file} is neither a recipe nor a best.yml: it names no merge_method",
            fix="Name a mergekit recipe, a best.yml, or a run folder.",
        )
    ignored = ignored_keys(content)
    return heard(source, ignored, hear)


def heard(source: YamlFile, ignored: Iterable[Ignored], hear: Hear) -> dict[str, Any]:
    """A document without the keys that mergekit ignores, which are told.

    Args:
        source: The document; a mapping.
        ignored: These keys.
        hear: Takes a finding about each.

    Raises:
        GenomeError: some are known ones misspelt, or the document holds what no recipe can.
    """
    try:
        canonical_json(source.data)
    except ValueError as error:  # YAML has .nan and .inf
        raise GenomeError(
            f"{Path(source.name)} holds what no recipe can ({error})", fix="Write finite numbers."
        ) from error
    ignored = sorted(ignored, key=lambda one: source.lines.get(one.path, 0))
    told = [one for one in ignored if one.meant or not source.is_helper(one.path)]
    misspelt = [_misspelt(one, source) for one in told if one.meant]
    if misspelt:
        raise GenomeError.of(misspelt)
    for one in told:
        hear(_finding(one, source))
    return without(source.data, ignored)


def _name(stage: YamlFile) -> str | None:
    name = stage.data.get("name") if isinstance(stage.data, dict) else None
    if name is None or isinstance(name, str):
        return name
    raise GenomeError(
        f"the name of a stage is {name!r}, expected a text",
        where=stage.where(("name",)),
        fix="Put it in quotation marks, or correct it.",
    )


def _misspelt(one: Ignored, source: YamlFile) -> Problem:
    what = f"mergekit ignores {one.path[-1]!r}; did you mean {one.meant!r}?"
    return Problem(what, source.where(one.path), "Mend or remove it.")


def _finding(one: Ignored, source: YamlFile) -> Finding:
    report = note if one.is_known else warning
    what = f"mergekit ignores {one.path[-1]!r}: {one.why}; it is left out"
    return report(what, source.where(one.path))

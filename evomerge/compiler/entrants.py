"""What names on the command line stand for: a model, a recipe, a run's winner, a best.yml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from evomerge.compiler.recipe_models import Known, misfits, models_of
from evomerge.foundations.errors import EvomergeError, GenomeError, Problem, nearest
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.reading import is_file, is_folder, is_there, listed
from evomerge.genome.methods import METHODS
from evomerge.genome.model_names import ModelName
from evomerge.merging.registered_methods import register_methods
from evomerge.models.merge_dtype import common_dtype
from evomerge.recipe.base import Hear
from evomerge.recipe.file import documents_of, recipe_of
from evomerge.recipe.plain import Recipe
from evomerge.run.changed_models import changed, changed_of
from evomerge.run.chosen import ChosenTrial, winners_of
from evomerge.run.ledger.no_run import runs_below
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.staged_folder import result_folder

_YAML = (".yml", ".yaml")


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe, and how it is to be merged.

    Attributes:
        name: What it is called.
        recipe: It; of a model alone the one that gives it back.
        dtype: Of its weights.
        merge_seed: Of methods that draw, as its run has it; None: it is of no run.
        threads: Of the arithmetic, likewise.
    """

    name: str
    recipe: Recipe
    dtype: str = ""
    merge_seed: int | None = None
    threads: int | None = None


def named_recipes(
    names: Sequence[str], permissions: Permissions, hear: Hear
) -> tuple[list[NamedRecipe], list[Problem]]:
    """What each name stands for, and everything that is wrong with any of them.

    Args:
        names: Folders, Hub ids, recipes, best.yml files, run folders; of a run with several
            objectives each point of its front counts.
        permissions: What the user allows models.
        hear: Takes a finding about every key of a recipe that mergekit ignores, and about every
            model of a run that has changed since.
    """
    found: list[NamedRecipe] = []
    wrong: list[Problem] = []
    for name in names:
        try:
            described, mistakes = looked_at([*_meant(name, permissions, hear)], permissions)
        except EvomergeError as error:
            wrong += [replace(p, where=_where(name, p)) for p in error.problems]
            continue
        found += described
        wrong += mistakes
    return _apart(found), list(dict.fromkeys(wrong))


def looked_at(
    recipes: Sequence[NamedRecipe], permissions: Permissions, known: Known | None = None
) -> tuple[list[NamedRecipe], list[Problem]]:
    """The same with their dtypes, and what is wrong with their models, alone and together.

    Args:
        recipes: What will be merged.
        permissions: What the user allows models.
        known: What was found of models; more is added.
    """
    known = {} if known is None else known
    found: list[NamedRecipe] = []
    wrong: list[Problem] = []
    for one in recipes:
        facts, mistakes = models_of(one.recipe, permissions, known)
        wrong += _unknown_methods(one)
        wrong += mistakes or misfits(one.name, one.recipe, facts)
        dtype = one.recipe.dtype or (common_dtype(facts) if facts else "")
        found.append(replace(one, dtype=dtype))
    return found, list(dict.fromkeys(wrong))


def _unknown_methods(one: NamedRecipe) -> Iterator[Problem]:
    """Merge methods that neither mergekit nor a package has that was imported."""
    for method in filter(None, one.recipe.methods):
        if method not in METHODS:
            yield Problem(
                f"mergekit has no merge method {method!r}{nearest(method, list(METHODS))}",
                one.name,
                "Mend its name; where a package registers it, name the run or the best.yml of it, "
                "which know the package, with --allow-code.",
            )


def _meant(name: str, permissions: Permissions, hear: Hear) -> Iterator[NamedRecipe]:
    path = Path(name)
    if is_folder(path):
        if is_there(RunFolder(result_folder(path)).ledger):
            yield from _winners(name, winners_of(path), permissions, hear)
        else:
            _refuse_recipes(path)
            _refuse_runs(path)
            yield NamedRecipe(name, _of_model(name))
    elif path.suffix in _YAML or is_file(path):
        if not is_there(path):
            raise GenomeError("there is no such file", fix="Name a recipe, or a folder or Hub id.")
        documents = documents_of(path)
        if isinstance(documents[-1].data, dict) and "evomerge_best" in documents[-1].data:
            yield from _winners(name, winners_of(path), permissions, hear)
        else:
            yield NamedRecipe(name, recipe_of(documents, hear))
    else:
        yield NamedRecipe(name, _of_model(name))


def _refuse_recipes(folder: Path) -> None:
    """A folder that ``export`` wrote for several commands of mergekit is no model."""
    files = [one.name for one in listed(folder) if one.suffix in _YAML]
    if files and not is_file(folder / "config.json"):
        raise GenomeError(
            f"it holds no model, but {', '.join(sorted(files))}",
            fix="Name the run they came from, one of the files, or what mergekit built of them.",
        )


def _refuse_runs(folder: Path) -> None:
    """A folder that holds runs is none of them, and no model."""
    below = "" if is_file(folder / "config.json") else runs_below(folder)
    if below:
        raise GenomeError(f"it holds no model, but runs: {below}", fix="Name one of them.")


def _winners(
    name: str, chosen: Sequence[ChosenTrial], permissions: Permissions, hear: Hear
) -> Iterator[NamedRecipe]:
    for model in dict.fromkeys(chain.from_iterable(changed_of(chosen))):
        hear(changed(model, "score what that run found"))
    for one in chosen:
        register_methods(one.packages, permissions)
        own = name if len(chosen) == 1 else f"{name} trial {one.trial_id}"
        content = one.content
        seed, threads = int(content["merge_seed"]), int(content["threads"])
        yield NamedRecipe(own, one.recipe, merge_seed=seed, threads=threads)


def model_named(name: str) -> ModelName:
    """What a text names: a folder as it is, else a Hub id or folder with its parts.

    Raises:
        GenomeError: it names none.
    """
    if is_folder(name):
        return ModelName(path=name)
    try:
        return ModelName.model_validate(name)
    except ValidationError as error:
        what = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise GenomeError(what, where=name, fix="Name a folder or a Hub id.") from error


def _of_model(name: str) -> Recipe:
    models = [{"model": model_named(name).in_recipe}]
    return Recipe({"merge_method": "passthrough", "models": models})


def _where(name: str, problem: Problem) -> str:
    """The file or model that is wrong; what was named where the problem does not say."""
    return problem.where or name


def _apart(found: Sequence[NamedRecipe]) -> list[NamedRecipe]:
    """The same, in the order they were named, each name once: the second ``a`` is ``a (2)``."""
    counts: dict[str, int] = {}
    apart = []
    for one in found:
        counts[one.name] = counts.get(one.name, 0) + 1
        again = counts[one.name]
        apart.append(one if again == 1 else replace(one, name=f"{one.name} ({again})"))
    return apart

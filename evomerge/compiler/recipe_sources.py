"""Recipes that a genome names where models stand: what is built of them before they are merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evomerge.compiler.compiled import named_models
from evomerge.compiler.entrants import NamedRecipe, looked_at
from evomerge.compiler.recipe_models import Known, models_of
from evomerge.foundations.errors import EvomergeError, Problem
from evomerge.foundations.findings import Finding, error
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.reading import is_file
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.merge_spaces import merge_space_for
from evomerge.models.facts import ModelFacts
from evomerge.models.foreseen import foreseen
from evomerge.recipe.file import documents_of, recipe_of, stands_for_recipe
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import merged_in


@dataclass(frozen=True)
class RecipeSource:
    """A recipe in the place of a model.

    Attributes:
        name: As the genome names it: its file.
        recipe: What makes the model.
        like: What that will be like.
    """

    name: ModelName
    recipe: Recipe
    like: ModelFacts


@dataclass(frozen=True)
class RecipeSources:
    """All of a genome.

    Attributes:
        sound: Those that can be built.
        broken: Those that cannot.
        findings: What is wrong with these, and what mergekit ignores in any.
    """

    sound: tuple[RecipeSource, ...]
    broken: tuple[ModelName, ...]
    findings: tuple[Finding, ...]

    @property
    def foreseen(self) -> Mapping[ModelName, ModelFacts | None]:
        """What each will be like; None where nobody can tell."""
        return {**dict.fromkeys(self.broken), **{one.name: one.like for one in self.sound}}


def names_recipe(model: ModelName) -> bool:
    """Whether a genome names a recipe's file where a model stands."""
    return stands_for_recipe(model) and is_file(Path(model.path))


def recipe_sources(genome: Genome, permissions: Permissions) -> RecipeSources:
    """The recipes that a genome names for models; no weight is read.

    Args:
        genome: The genome.
        permissions: What the user allows.
    """
    sound: list[RecipeSource] = []
    broken: list[ModelName] = []
    findings: list[Finding] = []
    files: dict[str, Path] = {}
    for name, key in named_models(genome):
        if not names_recipe(name):
            continue
        try:
            recipe = recipe_of(documents_of(Path(name.path)), findings.append)
            known: Known = {}
            _, mistakes = looked_at([NamedRecipe(name.path, recipe)], permissions, known)
            wrong = [*_unfit(genome, recipe), *_called_alike(Path(name.path), files), *mistakes]
        except EvomergeError as unread:
            wrong = list(unread.problems)
        if wrong:
            broken.append(name)
            findings += [error(*_placed(one, name.path, key)) for one in wrong]
        else:
            like = _foreseen(name, recipe, models_of(recipe, permissions, known)[0])
            sound.append(RecipeSource(name, recipe, like))
    return RecipeSources(tuple(sound), tuple(broken), tuple(findings))


def _unfit(genome: Genome, recipe: Recipe) -> Iterator[Problem]:
    """Why nothing could be merged of what a recipe makes."""
    if not recipe.is_stage:
        made = recipe.unbuilt or f"{recipe.program} makes it"
        yield Problem(
            f"no merge takes the model of this recipe: {made}, and mergekit-multi does not",
            fix="Name a recipe of mergekit-yaml or mergekit-multi.",
        )
    elif merge_space_for(genome.genome).mixes and recipe.parts[0]:
        yield Problem(
            "a mixture holds models and merges, and no merges of merges",
            fix="Name a recipe that merges models alone.",
        )


def _called_alike(file: Path, files: dict[str, Path]) -> Iterator[Problem]:
    """Another file of the same name, by which a run calls and keeps what it makes."""
    other = files.setdefault(file.name, file)
    if other != file:
        yield Problem(
            f"{other} has the same file name, and a run tells recipes apart by it",
            fix="Give one of the two files another name.",
        )


def _placed(problem: Problem, file: str, key: str) -> tuple[str, str, str]:
    """A problem of a recipe at its line, else at the key that names the file."""
    if problem.where.startswith(file):
        return problem.what, problem.where, problem.fix
    return f"{file}: {problem.what}", key, problem.fix


def _foreseen(name: ModelName, recipe: Recipe, facts: Sequence[ModelFacts]) -> ModelFacts:
    by_name = {one.name: one for one in facts}
    last = recipe.documents[-1]
    donors = [*merged_in({"base_model": last.get("base_model")}), *merged_in(last), *recipe.models]
    like = next(by_name[model.text] for model in donors if model.text in by_name)
    return foreseen(like, name, _n_layers(recipe), facts)


def _n_layers(recipe: Recipe) -> int | None:
    """Layers of what a recipe makes, where its slices say; mergekit has read them by now."""
    *before, document = recipe.documents
    made = dict(zip(recipe.made, before, strict=True))
    while not document.get("slices"):
        donors = [*merged_in({"base_model": document.get("base_model")}), *merged_in(document)]
        if not donors or donors[0].path not in made:
            return None
        document = made.pop(donors[0].path)
    spans = [one["sources"][0].get("layer_range") for one in document["slices"]]
    return sum(int(end) - int(start) for start, end in spans) if all(spans) else None

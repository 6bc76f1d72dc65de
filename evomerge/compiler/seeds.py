"""The merges a search begins from: those of an earlier run, a winner, a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from evomerge.foundations.errors import EvomergeError, GenomeError, Problem
from evomerge.foundations.findings import Finding
from evomerge.foundations.reading import is_folder, is_there
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.baselines import baselines
from evomerge.nouns.origin import Origin, OriginKind
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.base import Hear
from evomerge.recipe.file import documents_of, recipe_of
from evomerge.recipe.kept_stages import folded
from evomerge.recipe.own_names import located
from evomerge.recipe.plain import Recipe
from evomerge.run.chosen import winners_of
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.staged_folder import result_folder
from evomerge.run.recorded_run import load_run

_WHERE = "optimizer.seed_from"


def _deaf(finding: Finding) -> None:
    """Nobody wants to know."""


def seeds_of(genome: Genome, merge_space: MergeSpace, hear: Hear = _deaf) -> list[Candidate]:
    """What ``seed_from`` names, as the trials that follow the baselines.

    A recipe that is a point of the space has its genotype, so that the optimizer learns from
    it; of a run it is the best few that it found, as many as ``finalists``.

    Args:
        genome: Whose seeds.
        merge_space: Its space.
        hear: Takes a finding about every key of a recipe that mergekit ignores.

    Raises:
        GenomeError: something named there cannot be read, is no recipe, or is one that mergekit
            refuses.
    """

    def heard(finding: Finding) -> None:
        hear(replace(finding, problem=Problem(str(finding), _WHERE)))

    problems, recipes = [], []
    for name in genome.optimizer.seeds:
        try:
            for origin, found in _recipes(Path(name), genome.finalists, heard):
                recipe = folded(found, merge_space.made)
                _refuse_strangers(recipe, name, merge_space)
                _refuse_unmergeable(recipe, name, merge_space)
                recipes.append((origin, recipe))
        except EvomergeError as error:
            problems += [Problem(_named(name, p), _WHERE, p.fix) for p in error.problems]
    if problems:
        raise GenomeError.of(problems)
    first = len(baselines(merge_space, genome.baselines))
    return [
        _candidate(first + index, origin, recipe, merge_space)
        for index, (origin, recipe) in enumerate(recipes)
    ]


def _refuse_strangers(recipe: Recipe, name: str, merge_space: MergeSpace) -> None:
    """A recipe of other models would be found out only when it is merged."""
    definition = merge_space.definition
    own = [source.model for source in definition.models]
    models = (*own, *_base(merge_space))
    known = {m for one in models for m in merge_space.model_recipe(one).named}
    known |= set(Recipe(merge_space.frame(None)).named)  # whose tokens are taken
    strangers = sorted(
        model.text
        for model in set(recipe.named) - known
        if not is_folder(model.text)  # a checkpoint that a run wrote
    )
    if strangers and merge_space.folds_adapters:  # its sums lie in the run's folder
        raise GenomeError(
            f"{name} merges models that this genome does not: {', '.join(strangers)}",
            fix="Name merges of the genome's models.",
        )


def _refuse_unmergeable(recipe: Recipe, name: str, merge_space: MergeSpace) -> None:
    """A recipe that mergekit refuses would be a failed trial of the run, or win and be no merge."""
    from evomerge.merging.refusals import refusals  # loads mergekit; a wrong genome must not

    if recipe.unbuilt and not merge_space.mixes:
        raise GenomeError(
            f"{name} is no merge: {recipe.unbuilt}",
            fix="Name merges, or use space: mixture; baselines: [..., mixture] compares with one.",
        )
    found = refusals(recipe, merge_space.architecture)
    if found:
        raise GenomeError.of(
            [Problem(f"mergekit refuses {name}: {why}", fix="Mend the recipe.") for why in found]
        )


def _base(merge_space: MergeSpace) -> list[ModelName]:
    base = merge_space.definition.base_model
    return [] if base is None else [base]


def _named(name: str, problem: Problem) -> str:
    """What is wrong, with the file it is in."""
    place = problem.where or name
    return problem.what if place in problem.what else f"{place}: {problem.what}"


def _candidate(trial_id: int, origin: Origin, recipe: Recipe, merge_space: MergeSpace) -> Candidate:
    point = merge_space.point_of(recipe)
    if point is None:
        return Candidate(trial_id, origin, merge_space.written(recipe))
    genotype = merge_space.space.encode(point)
    return Candidate(
        trial_id, origin, merge_space.written(merge_space.recipe(point)), genotype, point
    )


def _recipes(path: Path, count: int, hear: Hear) -> Iterator[tuple[Origin, Recipe]]:
    """Origin and recipe of each merge that a path names."""
    if is_folder(path):
        path = result_folder(path)
        if not is_there(RunFolder(path).ledger):
            raise GenomeError(f"{path} is no run folder", fix="Name one that holds a ledger.")
        leaderboard = load_run(path).leaderboard
        for trial in islice(filter(_is_found, leaderboard.ranked()), count):
            name = f"{path}, trial {trial.candidate.trial_id}"
            origin = Origin(OriginKind.SEED, name, is_taught=leaderboard.is_learned(trial))
            yield origin, located(trial.candidate.recipe, path)
        return
    documents = documents_of(path)
    if isinstance(documents[-1].data, dict) and "evomerge_best" in documents[-1].data:
        (one,) = winners_of(path)
        is_taught = one.content.get("taught", False)
        yield Origin(OriginKind.SEED, str(path), is_taught=is_taught), one.recipe
    else:
        yield Origin(OriginKind.SEED, str(path)), recipe_of(documents, hear)


def _is_found(trial: Trial) -> bool:
    """Whether a search found it; models and their average are trials of every run anyway."""
    return not trial.candidate.is_baseline or trial.candidate.is_seed

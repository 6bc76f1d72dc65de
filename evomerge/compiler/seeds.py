"""The merges a search begins from: those of an earlier run, a winner, a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evomerge.errors import EvomergeError, GenomeError, Problem
from evomerge.files import canonical_json
from evomerge.genome.schema import Genome
from evomerge.genome.source import read_yaml
from evomerge.ledger import RunFolder
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.baselines import baselines
from evomerge.merge_spaces.reading import point_of
from evomerge.recipe import Recipe
from evomerge.report.best_file import read_best
from evomerge.report.run import load_run
from evomerge.trial import Candidate

_WHERE = "optimizer.seed_from"


def seeds_of(genome: Genome, merge_space: MergeSpace) -> list[Candidate]:
    """What ``seed_from`` names, as the trials that follow the baselines.

    A recipe that is a point of the space has its genotype, so that the optimizer learns from
    it; of a run it is the best few, as many as ``finalists``.

    Raises:
        GenomeError: something named there cannot be read, or is no recipe.
    """
    problems, recipes = [], []
    for name in genome.optimizer.seeds:
        try:
            recipes += list(_recipes(Path(name), genome.finalists))
        except EvomergeError as error:
            problems += [Problem(_named(name, p), _WHERE, p.fix) for p in error.problems]
    if problems:
        raise GenomeError.of(problems)
    first = len(baselines(merge_space))
    return [
        _candidate(first + index, origin, recipe, merge_space)
        for index, (origin, recipe) in enumerate(recipes)
    ]


def _named(name: str, problem: Problem) -> str:
    """What is wrong, with the file it is in."""
    place = problem.where or name
    return problem.what if place in problem.what else f"{place}: {problem.what}"


def _candidate(trial_id: int, origin: str, recipe: Recipe, merge_space: MergeSpace) -> Candidate:
    point = point_of(merge_space, recipe)
    if point is None:
        return Candidate(trial_id, origin, recipe)
    genotype = merge_space.space.encode(point)
    return Candidate(trial_id, origin, merge_space.recipe(point), genotype, point)


def _recipes(path: Path, count: int) -> Iterator[tuple[str, Recipe]]:
    """Origin and recipe of each merge that a path names."""
    if path.is_dir():
        if not RunFolder(path).ledger.is_file():
            raise GenomeError(f"{path} is no run folder", fix="Name one that holds a ledger.")
        for trial in load_run(path).standing.ranked()[:count]:
            yield f"seed {path}, trial {trial.candidate.trial_id}", trial.candidate.recipe
        return
    content = read_yaml(path).data
    if isinstance(content, dict) and "evomerge_best" in content:
        content = read_best(path)["recipe"]
    yield f"seed {path}", Recipe(_as_recipe(content, path))


def _as_recipe(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict) or "merge_method" not in content:
        raise GenomeError(
            f"{path} is neither a recipe nor a best.yml: it names no merge_method",
            fix="Name a run folder, a best.yml, or a mergekit recipe.",
        )
    try:
        canonical_json(content)
    except ValueError as error:  # YAML has .nan and .inf
        raise GenomeError(
            f"{path} holds what no recipe can ({error})", fix="Write finite numbers."
        ) from error
    return content

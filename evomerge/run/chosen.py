"""The trials of a run that somebody names: its winners, its best ones, one by its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.foundations.errors import RunError
from evomerge.foundations.reading import is_file, is_folder, is_there, real_path
from evomerge.foundations.text_safety import argument
from evomerge.genome.methods import METHODS
from evomerge.nouns.trial import Trial
from evomerge.recipe.own_names import located
from evomerge.recipe.plain import Recipe
from evomerge.run.best import best_content, recipe_of
from evomerge.run.best_file import read_best
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.staged_folder import whole_folder
from evomerge.run.recorded_run import RecordedRun, load_run


@dataclass(frozen=True)
class ChosenTrial:
    """One trial, as best.yml has it.

    Attributes:
        content: What best.yml holds of it.
        run_dir: Its run folder, or where its best.yml lies.
    """

    content: Mapping[str, Any]
    run_dir: Path | None = None

    @property
    def trial_id(self) -> int:
        """Its trial."""
        return int(self.content["trial"])

    @property
    def packages(self) -> tuple[str, ...]:
        """Those that register merge methods of its recipe with mergekit; often none."""
        is_strange = not all(map(METHODS.is_own, self.recipe.methods))
        return tuple(self.content.get("method_packages", ())) if is_strange else ()

    @property
    def recipe(self) -> Recipe:
        """Its recipe, which means the same anywhere."""
        return located(self.own_recipe, self.run_dir)

    @property
    def own_recipe(self) -> Recipe:
        """Its recipe as its ledger has it, wherever the run folder is."""
        return recipe_of(dict(self.content))


def winners_of(path: Path) -> list[ChosenTrial]:
    """The winner of a run folder or of a best.yml; the whole front of a run that has one.

    Raises:
        EvomergeError: there is nothing to export.
    """
    if not is_folder(path) and is_there(path):
        return [ChosenTrial(read_best(path), run_dir_of(path))]
    run = load_run(path)
    return [_chosen(run, trial) for trial in refuse_none(run, run.winners)]


def top_of(path: Path, count: int) -> list[ChosenTrial]:
    """The best trials on the search tasks, best first, no recipe twice."""
    run = load_run(_folder(path))
    return [_chosen(run, trial) for trial in refuse_none(run, run.leaderboard.ranked()[:count])]


def trial_of(path: Path, trial_id: int) -> ChosenTrial:
    """One trial of a run.

    Raises:
        RunError: the run has no such trial, or it failed.
    """
    run = load_run(_folder(path))
    return _chosen(run, run.complete_trial(trial_id))


def _chosen(run: RecordedRun, trial: Trial) -> ChosenTrial:
    return ChosenTrial(best_content(run.ledger, run.leaderboard, trial), run.ledger.folder.path)


def refuse_none(run: RecordedRun, trials: list[Trial]) -> list[Trial]:
    """The same trials, of which there is one at least.

    Raises:
        RunError: there is none: nothing was scored yet, or all failed, and would once more.
    """
    if trials:
        return trials
    folder, tried = run.ledger.folder.path, run.leaderboard.trials
    what, fix = "no trial of this run is complete yet", "Continue it with `evomerge run`."
    if failures := [one.outcome.failure for one in tried if one.outcome.failure]:
        what = f"no trial of this run is complete, the last failed: {failures[-1]}"
        fix = f"Mend what failed; {retry(folder)}."
    raise RunError(what, where=str(folder), fix=fix)


def retry(folder: Path) -> str:
    """How failed trials are tried again: a run that goes on keeps what it knows of them."""
    again = argument(whole_folder(folder) / "genome.yml")
    return f"`evomerge run {again} --fork NEW_RUN` tries them again and repeats nothing else"


def _folder(path: Path) -> Path:
    """The run folder of a run folder, or of a best.yml in it."""
    return path.parent if is_file(path) else path


def run_dir_of(best: Path) -> Path:
    """The run folder of a best.yml, or of a file of a front; else where it lies."""
    folder = real_path(best).parent
    is_front = is_file(RunFolder(folder.parent).ledger)
    return folder.parent if is_front and not is_file(RunFolder(folder).ledger) else folder

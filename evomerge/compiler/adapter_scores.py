"""A winner and the adapter that was made of it, to be scored on the tasks of their run."""

from __future__ import annotations

from pathlib import Path

from evomerge.compiler.entrants import NamedRecipe, looked_at
from evomerge.compiler.eval_plan import EvalPlan, TasksGiven, plan_of
from evomerge.compiler.file_mistakes import genome_of
from evomerge.foundations.errors import RunError
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.reading import is_file
from evomerge.genome.load import read_source
from evomerge.genome.model_names import ModelName
from evomerge.genome.words import SPLITS, Split
from evomerge.recipe.plain import Recipe
from evomerge.run.chosen import ChosenTrial
from evomerge.run.ledger.run_folder import RunFolder


def plan_for_adapter(
    chosen: ChosenTrial, base: ModelName, folder: Path, permissions: Permissions
) -> tuple[EvalPlan, Split]:
    """What scores the two, and on which split: holdout, or the last one that the run has.

    Raises:
        RunError: the run folder is not there.
        GenomeError: its tasks or models cannot be read.
    """
    run = None if chosen.run_dir is None else RunFolder(chosen.run_dir)
    if run is None or not (is_file(run.ledger) and is_file(run.genome)):
        raise RunError(
            "it lies in no run folder, so nobody knows on what", fix="Use `evomerge eval`."
        )
    genome = genome_of(read_source(run.genome))
    split = next(split for split in reversed(SPLITS) if genome.split(split))
    seed, threads = int(chosen.content["merge_seed"]), int(chosen.content["threads"])
    model = base.model_copy(update={"lora": str(folder), "lora_revision": None})
    adapted = {"merge_method": "passthrough", "models": [{"model": model.in_recipe}]}
    pair = (
        NamedRecipe("winner", chosen.recipe, merge_seed=seed, threads=threads),
        NamedRecipe("adapter", Recipe(adapted)),
    )
    found, wrong = looked_at(pair, permissions)
    return plan_of(found, TasksGiven(genome=run.genome, split=split), permissions, wrong), split

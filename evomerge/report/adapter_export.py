"""A winner as a LoRA of its base: which base, of what it is a sum, and what stands against it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.foundations.errors import RunError
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.reading import is_file, is_folder
from evomerge.foundations.scratch import scratch
from evomerge.genome.load import load_genome
from evomerge.genome.methods import METHODS
from evomerge.genome.model_names import ModelName
from evomerge.recipe.plain import Recipe
from evomerge.run.chosen import ChosenTrial, run_dir_of
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.staged_folder import result_folder

if TYPE_CHECKING:
    from evomerge.merging.lora_fit import Change, Report
    from evomerge.merging.lora_output import LoraOutput

Watch = Callable[[str, float], None]
_RANK = "Give --rank N for the nearest adapter of that rank."


def wants_adapter(best_or_run: Path) -> bool:
    """Whether the genome of a run, or of the run that a best.yml lies in, has `output: adapter`.

    Of a run with stages the last one that has begun is asked. A folder without a ledger is no run.

    Raises:
        GenomeError: it cannot be read.
    """
    is_run = is_folder(best_or_run)
    run = RunFolder(result_folder(best_or_run) if is_run else run_dir_of(best_or_run))
    is_there = is_file(run.ledger) and is_file(run.genome)
    return is_there and load_genome(run.genome)[0].output == "adapter"


def base_of(recipe: Recipe, given: ModelName | None = None) -> ModelName:
    """What an adapter of a merge would be an adapter of.

    Args:
        recipe: The merge.
        given: What the user names; None: the base of its adapters, else its ``base_model``.

    Raises:
        RunError: no adapter makes its model, it names none, or one that an earlier merge makes,
            or its adapters have several, or what is given has an adapter.
    """
    if recipe.unadapted:
        raise RunError(recipe.unadapted, where="--adapter", fix="Export it as a recipe.")
    if given is not None and given.lora is not None:
        raise RunError(
            f"{given} is a model with an adapter, of which no other can be one",
            where="--base",
            fix=f"Name {_without_adapter(given)}, or build the model and name its folder.",
        )
    if given is not None:
        return given
    bases = {_without_adapter(model) for model in recipe.models if model.lora}
    named = recipe.documents[-1].get("base_model")
    if not bases and named is not None:
        bases = {_without_adapter(ModelName.model_validate(named))} & {*recipe.models}
    if len(bases) == 1:
        return bases.pop()
    listed = ", ".join(sorted(map(str, bases)))
    raise RunError(
        f"its adapters are of several bases: {listed}" if bases else "the merge names no base",
        where="--adapter",
        fix="Name what the adapter is to be of with --base.",
    )


def adapter_of(
    chosen: ChosenTrial,
    base: ModelName,
    rank: int | None,
    permissions: Permissions,
    watch: Watch,
) -> LoraOutput:
    """The adapter that makes a base the winner, or comes nearest to it.

    Args:
        chosen: The winner.
        base: What it is an adapter of.
        rank: Of the nearest one; None: the sum of the merge's own adapters, if it is one.
        permissions: What the user allows models.
        watch: Hears how far it is.

    Raises:
        RunError: it is no sum of adapters, or changes no linear layer.
        MergeError: the two cannot be merged, or differ in more than numbers.
    """
    from evomerge.merging.bits import is_there
    from evomerge.merging.factors import placed
    from evomerge.merging.lora_fit import Change, nearest_of_rank, weights_in
    from evomerge.merging.mergers import Mergers
    from evomerge.merging.resident import ResidentMerger

    content = chosen.content
    device = str(content["device"])
    mergers = Mergers(
        partial(
            ResidentMerger,
            device=device if is_there(device) else "cpu",
            merge_seed=int(content["merge_seed"]),
            trust_remote_code=permissions.trust_remote_code,
            allow_pickle=permissions.pickle,
        )
    )
    with scratch() as beside:
        recipe = placed(chosen.recipe, beside)
        if rank is None:
            _refuse_no_sum(recipe)
        watch("merges", 0.0)
        merged = weights_in(mergers.merge(recipe))
        watch("reads the base", 0.0)
        alone = Recipe({"merge_method": "passthrough", "models": [{"model": base.in_recipe}]})
        change = Change(merged, mergers.merge(alone))
        if rank is None:
            lora = _sum_of(change, recipe, base, partial(watch, "finds its adapters"))
        else:
            lora = nearest_of_rank(change, rank, base, partial(watch, "decomposes"))
    if not lora.factors:
        raise RunError(
            "the merge changes no linear layer of its base, so that no LoRA is anything like it",
            where="--adapter",
            fix="Export it as a recipe.",
        )
    return lora


def _sum_of(change: Change, recipe: Recipe, base: ModelName, report: Report) -> LoraOutput:
    from evomerge.merging.lora_fit import read_expert, summed_experts

    experts = [read_expert(m) for m in recipe.models if m.lora and _without_adapter(m) == base]
    lora = summed_experts(change, experts, base, report)
    if lora is None:
        raise RunError(
            f"the merge is {base} and more than a sum of its adapters", where="--adapter", fix=_RANK
        )
    return lora


def _refuse_no_sum(recipe: Recipe) -> None:
    """Told before anything is merged."""
    if not any(model.lora for model in recipe.models):
        raise RunError("the merge is of no LoRA adapters", where="--adapter", fix=_RANK)
    others = [m for m in recipe.methods if m != _COPY and not (m in METHODS and _is_sum(m))]
    if others:
        raise RunError(
            f"{', '.join(others)} makes no sum of adapters", where="--adapter", fix=_RANK
        )


_COPY = "passthrough"


def _is_sum(method: str) -> bool:
    return METHODS[method].is_linear


def _without_adapter(model: ModelName) -> ModelName:
    return model.model_copy(update={"lora": None, "lora_revision": None})

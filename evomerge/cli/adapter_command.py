"""``evomerge export --adapter``: the winner as a LoRA, its error, and how it scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.cli.watching import watching
from evomerge.cli.written import say
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.text_safety import one_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evomerge.genome.model_names import ModelName
    from evomerge.merging.lora_output import LoraOutput, TensorFit
    from evomerge.run.chosen import ChosenTrial

_N_SHOWN = 12  # tensors


def export_adapter(
    chosen: ChosenTrial,
    folder: Path,
    base: ModelName | None,
    rank: int | None,
    permissions: Permissions,
    *,
    force: bool,
    is_scored: bool,
) -> None:
    """Writes a winner as an adapter, says how well it does, and scores it beside the winner.

    Args:
        chosen: The winner.
        folder: Of the adapter.
        base: What it is to be an adapter of; None: what the recipe says.
        rank: Of the nearest one; None: exact, or refused.
        permissions: What the user allows models and tasks.
        force: Whether an adapter that was made of a merge is replaced there.
        is_scored: Whether it is scored on the run's holdout.

    Raises:
        EvomergeError: something is there, the merge is no sum of adapters, or cannot be merged.
    """
    from evomerge.foundations.creating import (
        ADAPTER,
        refuse_inside_needed,
        refuse_occupied_folder,
    )
    from evomerge.merging.registered_methods import register_methods
    from evomerge.report.adapter_export import adapter_of, base_of
    from evomerge.report.exporting import PURPOSE
    from evomerge.run.changed_models import changed, changed_of

    models = [*chosen.recipe.models, *([] if base is None else [base])]
    needed = {Path(place) for model in models for place in model.places}
    refuse_inside_needed(folder, needed)
    refuse_occupied_folder(folder, ADAPTER, force=force, needed=needed)
    register_methods(chosen.packages, permissions)
    for model in dict.fromkeys(*changed_of([chosen])):
        say(f"warning: {changed(model, PURPOSE)}")
    of = base_of(chosen.recipe, base)
    with watching() as watch:
        lora = adapter_of(chosen, of, rank, permissions, watch)
    from evomerge.merging.lora_output import write_lora

    write_lora(lora, folder, force=force)
    _tell(lora, folder)
    if is_scored:
        _score(chosen, of, folder, permissions)


def _tell(lora: LoraOutput, folder: Path) -> None:
    """Its size and its error, whole and where it is largest."""
    from evomerge.cli.drawn import plain_table

    worst = sorted(lora.tensors, key=lambda one: -one.relative)
    total = lora.total
    plain_table(
        [
            {"tensor": "all", "relative error": f"{total.relative:.2e}"},
            *({"tensor": t.name, "relative error": f"{t.relative:.2e}"} for t in worst[:_N_SHOWN]),
        ]
    )
    if len(worst) > _N_SHOWN:
        say(f"and {len(worst) - _N_SHOWN} more, none larger; fit.json has them", err=False)
    if lora.left_out:
        say(_left_out(lora.left_out, total), err=False)
    say(
        f"{one_name(folder)} is an adapter of {lora.base}, rank {lora.rank}, "
        f"{counted(len(lora.factors), 'module')}",
        err=False,
    )


def _left_out(tensors: Sequence[TensorFit], total: TensorFit) -> str:
    """Tensors that no LoRA of linear layers changes, and how much of all of the change they are."""
    import math

    share = math.hypot(*(one.change for one in tensors)) / total.change
    names = ", ".join(one.name for one in tensors[:_N_SHOWN])
    more = f" and {len(tensors) - _N_SHOWN} more" if len(tensors) > _N_SHOWN else ""
    changed = counted(len(tensors), "tensor")
    return f"left out, {share:.1%} of the change, {changed} of no linear layer: {names}{more}"


def _score(chosen: ChosenTrial, base: ModelName, folder: Path, permissions: Permissions) -> None:
    """The winner and its adapter on the run's own tasks; the adapter is there whatever comes."""
    from evomerge.compiler.adapter_scores import plan_for_adapter

    try:
        plan, split = plan_for_adapter(chosen, base, folder, permissions)
    except EvomergeError as error:
        for problem in error.problems:
            say(f"not scored: {problem}")
        return
    from rich.console import Console

    from evomerge.cli.eval_command import scored
    from evomerge.cli.score_table import draw_scores
    from evomerge.report.score_rows import all_rows

    say(f"scores the winner and its adapter on the {split} tasks of the run")
    found = scored(plan)
    rows = all_rows(plan.evaluators, found)
    draw_scores(Console(highlight=False), rows, [one.entrant.name for one in found])

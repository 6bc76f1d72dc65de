"""Applies the rule of `optimizers/auto` to a genome: once, when a run begins, and kept there.

From then on it is a chain like any other: budgets, room, reports and artifacts are the links' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from evomerge.checks.context import CheckContext
from evomerge.checks.need import ITEM_BYTES
from evomerge.checks.search_plan import storage_of
from evomerge.compiler.make_optimizer import OptimizerChoice, choice_of, elsewhere, n_objectives
from evomerge.compiler.recorded_genome import recorded_header
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.sizes import size_text
from evomerge.genome.schema import Genome
from evomerge.merge_spaces.base import MergeSpace
from evomerge.nouns.space import Space
from evomerge.optimizers.auto import TRAINING, Facts, chosen
from evomerge.optimizers.gradient.gradient_settings import GradientSettings
from evomerge.optimizers.gradient.learner import Gradient
from evomerge.optimizers.picked import AutoChoice, block_in, chosen_in, is_auto

# What a pass of training holds beside the model: nobody knows the texts before they are read.
_TOKENS = 32 * 256  # a batch of short documents
_VALUES_PER_TOKEN = 17  # kept for the way back, per layer and unit of width


def with_auto(
    context: CheckContext, choice: OptimizerChoice, run_dir: Path | None = None
) -> tuple[CheckContext, OptimizerChoice]:
    """The same with the optimizers that ``auto`` stands for, where the genome says it.

    Args:
        context: The genome and what its files say.
        choice: Its optimizers as they are named.
        run_dir: Folder of a run of this genome that has begun, which goes on as it began.

    Raises:
        GenomeError: the genome's population is too small for what is picked.
    """
    genome, merge_space = context.genome, context.merge_space
    if not is_auto(genome.optimizer) or merge_space is None:
        return context, choice
    header = recorded_header(run_dir)
    picked = None if header is None else chosen_in(header)
    begun = None if header is None else block_in(header, genome.optimizer)
    if picked is None and begun is not None and not is_auto(begun):  # from before there was a rule
        genome = genome.model_copy(update={"optimizer": begun})
        return replace(context, genome=genome), choice_of(genome)
    if picked is None:
        picked = chosen(_facts(context, merge_space))
    elif genome.optimizer.budget > picked.budget:
        picked = _going_on(picked, _facts(context, merge_space))
    genome = genome.model_copy(update={"optimizer": picked.block(genome.optimizer)})
    choice = choice_of(genome)
    for link in choice:
        size, least = link.block.population_size, link.kind.min_population_size
        if size is not None and size < least:
            raise GenomeError(
                f"got {size}, {link.block.name}, which auto picks here, needs {least} or more",
                where="optimizer.population_size",
                fix="Raise it, or leave it out.",
            )
    return replace(context, genome=genome, auto=picked), choice


def _going_on(picked: AutoChoice, facts: Facts) -> AutoChoice:
    """What was picked when a run began, for more trials than it was to have then."""
    began = chosen(replace(facts, budget=picked.budget)).reaching(facts.budget)
    now, longer = chosen(facts), picked.reaching(facts.budget)
    if began.links == now.links:
        return longer
    was, other = (", then ".join(link.name for link in one.links) for one in (picked, now))
    return replace(longer, other=f"auto picked {was}, for {facts.budget} trials it picks {other}")


def _facts(context: CheckContext, merge_space: MergeSpace) -> Facts:
    genome, space = context.genome, merge_space.space
    return Facts(
        space,
        genome.optimizer.budget,
        n_objectives(genome),
        genome.execution.workers,
        genome.optimizer.population_size,
        _obstacle(space, genome) or _untold(genome) or _shortage(context),
        len(merge_space.conditional),
    )


def _obstacle(space: Space, genome: Genome) -> str:
    """Why there is no gradient in a space, in few words; empty where there is one."""
    own = Gradient.obstacles(space, genome, GradientSettings(**TRAINING))
    first = next(chain(own, elsewhere(Gradient, genome)), None)
    return "" if first is None else first.what.partition(" (")[0]


def _untold(genome: Genome) -> str:
    """Who learned the search documents has to be judged by others."""
    return "" if genome.validation else "no validation tasks to judge what is learned by"


def _shortage(context: CheckContext) -> str:
    """What training would need and is not there; empty where it fits, or nobody can tell."""
    item = ITEM_BYTES.get(context.dtype or "", 4)
    passes = _TOKENS * _VALUES_PER_TOKEN * item * _width(context)
    for store in storage_of(context):
        if store.capacity is None or store.path is not None:
            continue
        gradient = sum(need.n_bytes for need in store.needs if need.has_gradient)
        needed = store.certain_bytes + gradient + passes
        if gradient and needed > store.capacity.free:
            return (
                f"training takes some {size_text(needed)} of {store.name}, "
                f"{size_text(store.capacity.free)} are free"
            )
    return ""


def _width(context: CheckContext) -> int:
    """Units of width of all layers of a model together; 0 where its configuration does not say."""
    config: Mapping[str, Any] = context.models[0].text_config if context.models else {}
    sizes = [
        next((config[name] for name in names if isinstance(config.get(name), int)), 0)
        for names in (("num_hidden_layers", "n_layer"), ("hidden_size", "n_embd"))
    ]
    return int(sizes[0] * sizes[1])

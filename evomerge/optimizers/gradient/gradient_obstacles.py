"""What keeps a space from being searched by gradient, and what can hardly be meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evomerge.foundations.errors import GenomeError, Problem
from evomerge.foundations.reading import is_there
from evomerge.genome.schema import Genome, OptimizerLink
from evomerge.merge_spaces import merge_space_for
from evomerge.nouns.space import Real, Space
from evomerge.optimizers.gradient.gradient_settings import GradientSettings
from evomerge.optimizers.gradient.prompt_rows import refuse_unreadable

TRAINABLE = ("linear", "task_arithmetic")
_INSTEAD = "use optimizer: cma_es."


def all_obstacles(space: Space, genome: Genome, settings: GradientSettings) -> Iterator[Problem]:
    """Where there is no gradient, or no one model to train."""
    yield from _untrainable(space, genome)
    yield from _apart(genome, settings)
    yield from _over_depth(genome, settings)
    yield from _unreasonable(genome, settings)
    yield from _missing_prompts(genome, settings)
    yield from _unreadable_prompts(genome, settings)


def _untrainable(space: Space, genome: Genome) -> Iterator[Problem]:
    """Merges that are no sum of weighted models."""
    definition, kind = genome.genome, merge_space_for(genome.genome)
    if definition.merge_method not in TRAINABLE:
        yield Problem(
            f"{definition.merge_method} has no useful gradient (it trims, drops, elects or "
            f"turns), expected {' or '.join(TRAINABLE)}",
            "name",
            f"Use merge_method: task_arithmetic, or {_INSTEAD}",
        )
    elif kind.unlearned:
        yield Problem(
            f"{kind.unlearned} (space {kind.name}), gradient learns weights of whole models",
            "name",
            f"Use space: parameters, or {_INSTEAD}",
        )
    others = sorted({p.name.partition("[")[0] for p in space} - {"weight", "share"})
    if definition.merge_method in TRAINABLE and others:
        yield Problem(
            f"{', '.join(others)} cannot vary here: gradient learns weights only",
            "name",
            f"Fix the value, or {_INSTEAD}",
        )


def _apart(genome: Genome, settings: GradientSettings) -> Iterator[Problem]:
    """Columns of tensors of models with several parts: what is trained is written as one part."""
    if settings.granularity == "column" and merge_space_for(genome.genome).reads_modules:
        yield Problem(
            "space modules has a weight per group of tensors, and none per column",
            "granularity",
            "Use granularity: space.",
        )


def _over_depth(genome: Genome, settings: GradientSettings) -> Iterator[Problem]:
    """Fixed values that no recipe with a filter per tensor can hold."""
    if settings.granularity != "tensor":
        return
    names = {
        name
        for _, block in genome.genome.parameter_blocks
        for name, own in block.items()
        if any(isinstance(entry.value, list) for entry in own.entries)
    }
    for name in sorted(names):
        yield Problem(
            f"the genome fixes {name} as a list over depth, a weight per tensor stands in a slice "
            "per layer",
            "granularity",
            "Use granularity: space, or one value.",
        )


def _unreasonable(genome: Genome, settings: GradientSettings) -> Iterator[Problem]:
    """Losses that teach nothing."""
    losses = settings.losses
    if losses.weighted_overlap and genome.genome.merge_method == "linear":
        yield Problem(
            "weighted_overlap measures angles from a base, which linear has not",
            "losses",
            "Use overlap, or merge_method: task_arithmetic.",
        )
    if losses.nll and all(task.weight <= 0 for task in genome.tasks):
        yield Problem(
            "no search task has a weight above 0, and the others teach no answers",
            "losses",
            f"Set nll to 0 and let prompts teach, or {_INSTEAD}",
        )
    if not any(losses.model_dump().values()):
        yield Problem("every loss is 0: there is nothing to learn", "losses", "Leave nll at 1.")
    elif not (losses.nll or losses.need_prompts):
        yield Problem(
            "no loss reads a text (nll, kl, mse and entropy are 0), and without texts there are "
            "no steps",
            "losses",
            "Leave nll at 1.",
        )


def all_oddities(
    space: Space, link: OptimizerLink, settings: GradientSettings
) -> Iterator[Problem]:
    """Epochs that nobody waits for, steps that leave every range, prompts nobody reads."""
    if link.budget is not None and settings.epochs > link.budget:
        falling = "" if settings.schedule == "constant" else ", before its learning rate has fallen"
        yield Problem(
            f"the budget ends the training after {link.budget} of {settings.epochs} epochs"
            f"{falling}",
            "epochs",
            f"Set it to {link.budget}, or raise budget.",
        )
    if (link.population_size or 1) > 1:
        yield Problem(
            f"got {link.population_size}, but an epoch is one trial",
            "population_size",
            "Leave it out.",
        )
    widest = max((p.high - p.low for p in space if isinstance(p, Real)), default=np.inf)
    if settings.learning_rate >= widest:
        yield Problem(
            f"a step of {settings.learning_rate:g} goes from one end of every weight's range to "
            f"the other ({widest:g})",
            "learning_rate",
            "Make it a twentieth of the range or less.",
        )
    if settings.prompts and not settings.losses.need_prompts:
        yield Problem(
            "kl, mse and entropy are 0: nobody reads the prompts",
            "prompts",
            "Give one of them a weight under losses, or leave the prompts out.",
        )


def _missing_prompts(genome: Genome, settings: GradientSettings) -> Iterator[Problem]:
    """Models without texts, and texts without a model."""
    models = [source.model.text for source in genome.genome.models]
    unknown = sorted(set(settings.prompts) - set(models))
    if unknown:
        yield Problem(
            f"{unknown[0]!r} is none of the models ({', '.join(models)})",
            "prompts",
            "Name a model as genome.models does.",
        )
    missing = [model for model in models if not settings.prompts.get(model)]
    if settings.losses.need_prompts and missing:
        yield Problem(
            f"kl, mse and entropy read prompts of each model, {', '.join(missing)} has none",
            "prompts",
            "Name a file of JSON lines or a search task for each.",
        )


def _unreadable_prompts(genome: Genome, settings: GradientSettings) -> Iterator[Problem]:
    """Files that are not there, and tasks that do not steer."""
    tasks = [task.name for task in genome.tasks]
    for prompts in (one for entries in settings.prompts.values() for one in entries):
        if prompts.file is not None and not is_there(prompts.file):
            yield Problem(f"there is no file {prompts.file}", "prompts", "Mend its name.")
        elif prompts.file is not None:
            try:
                refuse_unreadable(Path(prompts.file), prompts.column)
            except GenomeError as error:
                yield from (Problem(p.what, "prompts", p.fix) for p in error.problems)
        if prompts.task is not None and prompts.task not in tasks:
            yield Problem(
                f"{prompts.task!r} is none of the search tasks ({', '.join(tasks)})",
                "prompts",
                "Name one of them, or a file of JSON lines.",
            )

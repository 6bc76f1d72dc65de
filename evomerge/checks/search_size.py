"""Whether the search can succeed: its dimensions against its budget, parameters that do nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from evomerge.checks.context import CheckContext
from evomerge.checks.reference_model import some
from evomerge.checks.search_plan import Trials, trials_of
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.findings import Finding, note, warning
from evomerge.merge_spaces import merge_space_for
from evomerge.merge_spaces.base import MergeSpace
from evomerge.models.facts import ModelFacts
from evomerge.nouns.space import Choice, Parameter

# A search is warned about with fewer trials per dimension, or fewer generations, than this.
TRIALS_PER_DIMENSION = 3
LEAST_GENERATIONS = 5
PLENTY_PER_DIMENSION = 10  # whatever the generations, this is no longer few
PLACES_SHOWN = 12
# How gradient writes what no point of the space means.
# What splits the layers further, when it is off.
_LAYOUT: dict[str, Any] = {"layer_granularity": 0, "filters": None, "smooth": False}


def budget(context: CheckContext) -> Iterator[Finding]:
    """Too many dimensions, or too large a population, for the trials there are."""
    trials = trials_of(context)
    optimizer = context.optimizer
    if trials is None or optimizer is None:
        return
    if not (optimizer.is_adaptive and optimizer.learns_by_trials):
        return
    is_wide = trials.budget < TRIALS_PER_DIMENSION * trials.n_dims
    is_few = trials.budget < PLENTY_PER_DIMENSION * trials.n_dims
    least = LEAST_GENERATIONS if is_few else 2  # of one generation nobody learns
    is_short = trials.population > 1 and trials.n_generations < least
    if is_wide or is_short:
        generations = f"{counted(trials.n_generations, 'generation')} of {trials.population}"
        yield warning(
            f"{counted(trials.budget, 'trial')} for {counted(trials.n_dims, 'parameter')}"
            f"{f', {generations},' if trials.population > 1 else ''} are few: the search will "
            "hardly leave where it starts",
            "optimizer.budget",
            _advice(context, trials),
        )


def _advice(context: CheckContext, trials: Trials) -> str:
    enough = max(TRIALS_PER_DIMENSION * trials.n_dims, LEAST_GENERATIONS * trials.population)
    raised = f"raise budget to {enough} or more"
    coarser = _coarser(context, trials.budget // TRIALS_PER_DIMENSION, trials.n_dims)
    return f"{coarser}, or {raised}." if coarser else f"{raised[0].upper()}{raised[1:]}."


def _coarser(context: CheckContext, most: int, n_dims: int) -> str:
    """The finest other granularity that has so few parameters; empty where none has."""
    merge_space = context.merge_space
    if merge_space is None or n_dims <= most:
        return ""
    own, n_layers = merge_space.definition, merge_space.architecture.n_layers
    names = {} if own.granularity in (None, "layers") else {"granularity": "layers"}
    size = 2 * max(own.layer_granularity, 1)
    while (own.layer_granularity or names) and size < n_layers:
        changes = {**names, "layer_granularity": size}
        if _n_dims(merge_space, changes) <= most:
            return f"Set {' and '.join(f'{key}: {value}' for key, value in changes.items())}"
        size *= 2
    if _n_dims(merge_space, {"granularity": "model", **_LAYOUT}) > most:
        return ""
    dropped = [key for key in _LAYOUT if getattr(own, key)]
    return "Set granularity: model" + (f" and drop {' and '.join(dropped)}" if dropped else "")


def _n_dims(merge_space: MergeSpace, changes: dict[str, Any]) -> float:
    """Parameters of the space with another granularity; infinite where there is none."""
    definition = merge_space.definition.model_copy(update=changes)
    try:
        other = merge_space_for(definition)(
            definition, merge_space.architecture, merge_space.out_dtype
        )
    except EvomergeError:
        return math.inf
    return other.space.n_dims


def picked(context: CheckContext) -> Iterator[Finding]:
    """What `optimizer: auto` stands for."""
    if context.auto is not None:
        yield note(str(context.auto))


def idle_workers(context: CheckContext) -> Iterator[Finding]:
    """More workers than there are trials that can be out at once."""
    workers, optimizer = context.genome.execution.workers, context.optimizer
    size = None if optimizer is None else optimizer.most_out
    if optimizer is None or size is None or workers <= size:
        return
    if size == optimizer.population_size:
        what = f"{workers} workers share generations of {counted(size, 'trial')}"
        other = f", or population_size: {workers}"
    else:
        what, other = f"{workers} workers share {counted(size, 'trial')} at once", ""
    yield warning(
        f"{what}; {workers - size} of them {'wait' if workers > size + 1 else 'waits'}",
        "execution.workers",
        f"Use {counted(size, 'worker')}{other}.",
    )


def patience(context: CheckContext) -> Iterator[Finding]:
    """A patience that outlasts the budget, or ends with the first generation."""
    limits = context.genome.optimizer
    size = context.optimizer.population_size if context.optimizer is not None else 1
    if limits.patience is not None and limits.patience < size <= limits.budget:
        yield warning(
            f"patience {limits.patience} is less than a generation of {size}: the search may end "
            "before anything is learned",
            "optimizer.patience",
            f"Make it {2 * size} or more, or leave it out.",
        )
    if limits.patience is not None and limits.patience >= limits.budget:
        yield warning(
            f"patience {limits.patience} never ends a search of {counted(limits.budget, 'trial')}",
            "optimizer.patience",
            "Make it smaller, or leave it out.",
        )


def left_out(context: CheckContext) -> Iterator[Finding]:
    """Parameters that are not searched, because models hold equal tensors where they act."""
    merge_space = context.merge_space
    if merge_space is None or not merge_space.idle:
        return
    places: dict[str, list[str]] = {}
    for one in merge_space.idle:
        places.setdefault(one.model, []).append(one.place or "all layers")
    where = [
        f"{f'{model} is equal to the base' if model else 'all models are equal'} in "
        + some(list(dict.fromkeys(own)), PLACES_SHOWN)
        for model, own in places.items()
    ]
    n_idle = len(merge_space.idle)
    yield note(
        f"{n_idle} of {counted(n_idle + merge_space.space.n_dims, 'parameter')} would change"
        f" nothing and are not searched: {'; '.join(where)}",
        "genome.models",
    )


def uncompared(context: CheckContext) -> Iterator[Finding]:
    """Models whose tensors nobody could look into for parameters that change nothing."""
    unseen = [model.name for model in unseen_models(context)]
    if not unseen:
        return
    yield note(
        f"tensors of {some(unseen)} were not compared with those of other models: they are on "
        "the Hub and not on this machine, and parameters that change nothing may be searched",
        "genome.models",
        "`evomerge run` downloads them before it begins, and leaves such parameters out.",
    )


def unseen_models(context: CheckContext) -> list[ModelFacts]:
    """Models whose tensors would be compared if their files were here."""
    if not merge_space_for(context.genome.genome).folds_adapters:  # their sums leave out nothing
        return []
    return [model for model in context.models if model.is_on_hub]


def idle_parameters(context: CheckContext) -> Iterator[Finding]:
    """Parameters whose ends mean the same recipe; one of each kind and range is tried."""
    merge_space = context.merge_space
    if merge_space is None:
        return
    space = merge_space.space
    asked = [(i, p) for i, p in enumerate(space) if p.name not in merge_space.conditional]
    first_of = {_kind(p): index for index, p in reversed(asked)}
    for (name, *_), index in first_of.items():
        digests = set()
        for end in (0.0, 1.0):
            genotype = np.array(space.initial)
            genotype[index] = end
            digests.add(merge_space.recipe(space.decode(genotype)).digest)
        if len(digests) == 1:
            yield warning(
                f"{space.parameters[index].name} changes nothing: both ends of its range give the "
                "same recipe",
                f"genome.parameters.{name}",
                "Widen its range, or fix its value.",
            )


def _kind(parameter: Parameter) -> tuple[Any, ...]:
    """What parameters of several models and layers have in common."""
    name = parameter.name.partition("[")[0]
    if isinstance(parameter, Choice):
        return (name, *parameter.values)
    return (name, parameter.low, parameter.high)

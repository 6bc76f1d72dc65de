"""The optimizer that a genome names, with its settings, over a compiled space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from pydantic import ValidationError

from evomerge.executors import EXECUTORS
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import EvomergeError, GenomeError, Problem
from evomerge.foundations.seeding import stream, stream_seed
from evomerge.genome.load import problems_of
from evomerge.genome.misfit import KeyPath
from evomerge.genome.schema import Genome, OptimizerBlock, OptimizerLink
from evomerge.genome.yaml_file import YamlFile, dotted
from evomerge.nouns.space import Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.base import OptimizerSettings as OptimizerSettings
from evomerge.optimizers.chain import Chain, Link
from evomerge.optimizers.islands import Islands
from evomerge.optimizers.picked import PickedLink
from evomerge.optimizers.search_context import SearchContext


@dataclass(frozen=True)
class ChosenLink:
    """One optimizer of a genome.

    Attributes:
        block: Its keys in the genome.
        kind: Its class.
        settings: Its own settings.
    """

    block: OptimizerLink
    kind: type[Optimizer]
    settings: OptimizerSettings


OptimizerChoice = tuple[ChosenLink, ...]


def chosen_optimizer(genome: Genome, source: YamlFile) -> OptimizerChoice:
    """The optimizers of a genome, often one, with their settings; needs no model.

    Raises:
        GenomeError: no such optimizer, or it cannot do what the genome asks.
    """
    found = optimizer_problems(genome.optimizer, n_objectives(genome), source)
    if found:
        raise GenomeError.of(found)
    return choice_of(genome)


def choice_of(genome: Genome) -> OptimizerChoice:
    """The same where nothing is wrong with them."""
    return tuple(_chosen(block) for block in genome.optimizer.links)


def _chosen(block: OptimizerLink) -> ChosenLink:
    kind = OPTIMIZERS[block.name]
    return ChosenLink(block, kind, kind.Settings.model_validate(block.settings))


def optimizer_problems(block: OptimizerBlock, n_losses: int, source: YamlFile) -> list[Problem]:
    """What the optimizers cannot do of what the genome asks, all at once."""
    return [
        problem
        for path, link in zip(_places(block), block.links, strict=True)
        for problem in _link_problems(link, n_losses, source, path)
    ]


def _places(block: OptimizerBlock) -> list[KeyPath]:
    """Where each optimizer stands in the file."""
    if not block.parts or isinstance(block.parts[0], PickedLink):
        return [("optimizer",)] * len(block.links)
    key = "chain" if block.chain else "islands"
    return [("optimizer", key, index) for index in range(len(block.parts))]


def _link_problems(
    block: OptimizerLink, n_losses: int, source: YamlFile, path: KeyPath
) -> list[Problem]:
    """What an optimizer cannot do of what the genome asks, all at once."""
    where = (*path, "name") if source.has((*path, "name")) else path
    try:
        optimizer = OPTIMIZERS[block.name]
    except EvomergeError as error:
        problem = error.problems[0]
        return [replace(problem, where=source.where(where))]
    found = []
    size, least = block.population_size, optimizer.min_population_size
    if size is not None and size < least:
        what = f"got {size}, {block.name} needs {least} or more"
        found.append(Problem(what, source.where((*path, "population_size"))))
    if n_losses > 1 and not optimizer.multi_objective:
        what = f"per_task has {n_losses} objectives, {block.name} minimises one"
        fix = "Use optimizer: nsga2, or another objective."
        found.append(Problem(what, source.where(("objective",)), fix))
    try:
        optimizer.Settings.model_validate(block.settings)
    except ValidationError as error:
        common: Mapping[str, object] = type(block).model_fields
        found += problems_of(error, source, optimizer.Settings, path, common)
    return found


def obstacles(choice: OptimizerChoice, genome: Genome, space: Space) -> list[Problem]:
    """What keeps the optimizers from searching this space, each at its key of the genome."""
    return [
        replace(problem, where=dotted((*path, *filter(None, [problem.where]))))
        for path, chosen in zip(_places(genome.optimizer), choice, strict=True)
        for problem in (
            *chosen.kind.obstacles(space, genome, chosen.settings),
            *elsewhere(chosen.kind, genome),
        )
    ]


def elsewhere(kind: type[Optimizer], genome: Genome) -> Iterator[Problem]:
    """Who trains models, where that is done in the process of the run and no place is for it."""
    name, n_workers = genome.execution.chosen_executor, genome.execution.workers
    if not kind.trains or name not in EXECUTORS:
        return
    executor = EXECUTORS[name]
    if (executor.runs_here and n_workers == 1) or (executor.lends and n_workers > 1):
        return
    yield Problem(
        f"models are trained in the process of the run, got execution.executor: {name} with "
        f"{counted(n_workers, 'worker')}",
        "name",
        "Use executor: serial for one worker, executor: processes for several, or optimizer: "
        "cma_es.",
    )


def oddities(choice: OptimizerChoice, genome: Genome, space: Space) -> list[Problem]:
    """What the user can hardly mean, though it can be searched, each at its key of the genome."""
    found, n_before = [], 0
    for path, chosen in zip(_places(genome.optimizer), choice, strict=True):
        for problem in (
            *_cut_short(chosen, genome, space),
            *chosen.kind.oddities(space, chosen.block, chosen.settings, n_before),
        ):
            where = dotted((*path, *filter(None, [problem.where])))
            found.append(replace(problem, where=where))
        n_before += (chosen.block.budget or 0) if genome.optimizer.chain else 0
    return [*found, *_lonely(choice, genome.optimizer)]


def _lonely(choice: OptimizerChoice, block: OptimizerBlock) -> Iterator[Problem]:
    """Islands that nobody migrates to, or not in time."""
    deaf = [chosen.block.name for chosen in choice if not chosen.kind.takes_migrants]
    if not block.islands:
        return
    if block.migrate_every >= block.budget:
        yield Problem(
            f"got {block.migrate_every}, the budget is {block.budget}: nobody ever migrates",
            "optimizer.migrate_every",
            "Make it smaller.",
        )
    elif len(deaf) == len(choice):
        yield Problem(
            f"none of {', '.join(deaf)} learns from trials made elsewhere in mid-run: these are "
            "separate searches",
            "optimizer.islands",
            "Add one that does: tpe, gp, niches, swarm or llm.",
        )


def deaf_islands(choice: OptimizerChoice, block: OptimizerBlock) -> Iterator[Problem]:
    """Islands that send migrants but take none; worth a note."""
    for index, chosen in enumerate(choice if block.islands else ()):
        if not chosen.kind.takes_migrants:
            yield Problem(
                f"{chosen.block.name} takes no migrants in mid-run; the others hear of its best",
                f"optimizer.islands[{index}]",
            )


def _cut_short(chosen: ChosenLink, genome: Genome, space: Space) -> Iterator[Problem]:
    """A link whose first generation is its last; of a single optimizer the preflight tells."""
    size, budget = _population_size(chosen, genome, space), chosen.block.budget or 1
    if genome.optimizer.parts and chosen.kind.is_adaptive and 1 < size >= budget:
        yield Problem(
            f"{budget} trials are one generation of {chosen.block.name} ({size}), which learns "
            "nothing from them",
            "budget",
            f"Raise it to {5 * size} or more, or make population_size smaller.",
        )


def n_objectives(genome: Genome) -> int:
    """How many losses a trial of the genome has."""
    return len(genome.tasks) if genome.objective == "per_task" else 1


def optimizer_for(
    choice: OptimizerChoice,
    genome: Genome,
    space: Space,
    context: SearchContext | None = None,
    asked_at_once: int | None = None,
) -> Optimizer:
    """The optimizer over a space, ready to ask.

    Args:
        choice: What the genome names.
        genome: The genome.
        space: What is searched.
        context: What it may know and use.
        asked_at_once: Trials of an ask, where a run goes on that was begun with so many: older
            versions had one per worker of who can be asked at any time.
    """
    context = replace(
        context or SearchContext(),
        budget=genome.optimizer.budget,
        keeps_start=genome.random_init or _is_at_average(genome) or _names_start(genome),
    )
    started = _started(space, genome)
    if not genome.optimizer.parts:
        is_free = choice[0].kind.asks_any_time and choice[0].block.population_size is None
        least = (asked_at_once or 1) if is_free else 1
        return _single(choice[0], 0, genome, started, context, least)
    links = [
        Link(
            chosen.block.name,
            chosen.kind,
            partial(_single, chosen, index, genome),
            chosen.block.budget or 1,
            is_optional=isinstance(chosen.block, PickedLink),
        )
        for index, chosen in enumerate(choice)
    ]
    seed, n_losses = genome.seed, n_objectives(genome)
    if genome.optimizer.islands:
        every = genome.optimizer.migrate_every
        return Islands(
            links,
            started,
            migrate_every=every,
            seed=seed,
            n_objectives=n_losses,
            context=context,
        )
    return Chain(links, started, seed=seed, n_objectives=n_losses, context=context)


def _single(
    chosen: ChosenLink,
    index: int,
    genome: Genome,
    space: Space,
    context: SearchContext,
    least: int = 1,
) -> Optimizer:
    given = genome.optimizer.seed
    names = ("optimizer",) if not index else ("optimizer", "link", index)
    return chosen.kind(
        space,
        seed=given + index if given is not None else stream_seed(genome.seed, *names),
        population_size=max(least, _population_size(chosen, genome, space)),
        n_objectives=n_objectives(genome),
        settings=chosen.settings,
        context=context,
    )


def _population_size(chosen: ChosenLink, genome: Genome, space: Space) -> int:
    """As the genome says, else the optimizer's own, but never less than one per worker.

    Who has no generations is asked for every worker by itself, unless others follow.
    """
    given, own = chosen.block.population_size, chosen.kind.default_population_size(space.n_dims)
    if given is not None:
        return given
    is_free = chosen.kind.asks_any_time and own == 1
    if is_free and not genome.optimizer.parts:
        return own
    return max(own, genome.execution.workers)


def _names_start(genome: Genome) -> bool:
    """Whether the genome itself says of a parameter where the search starts.

    Beside seeds, which are scored, it is one of the merges to begin with: the best of all is taken.
    """
    if genome.optimizer.seeds:
        return False
    blocks = (parameters for _, parameters in genome.genome.parameter_blocks)
    settings = (one for parameters in blocks for one in parameters.values())
    return any(entry.initial is not None for one in settings for entry in one.entries)


def _is_at_average(genome: Genome) -> bool:
    return genome.optimizer.start == "average"


def _started(space: Space, genome: Genome) -> Space:
    """The space with the search's start: as compiled, of whole task vectors, or at random."""
    if genome.random_init:
        return space.starting_at(stream(genome.seed, "start").random(space.n_dims))
    if not _is_at_average(genome):
        return space
    whole = (
        replace(p, initial=p.high) if isinstance(p, Real) and p.name.startswith("density") else p
        for p in space
    )
    return Space(tuple(whole))

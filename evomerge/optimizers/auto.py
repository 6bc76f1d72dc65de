"""A rule that picks optimizers by what is known before a run: training first, then a search.

Where training has a gradient to follow and nothing else wants its trials, it comes first: a few
epochs find what a search needs a hundred trials for, and the search goes on from the best of them.
Of the searches, a Gaussian process finds most with few trials and few dimensions, but takes longer
for each proposal, for which workers that are free wait, and what is out passes for poor to it;
CMA-ES draws another sample at once.
What was picked is kept in the ledger: a run that goes on, with more memory or less, keeps to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from evomerge.foundations.counted import counted
from evomerge.foundations.seeding import stream_seed
from evomerge.genome.schema import OptimizerLink
from evomerge.nouns.space import Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import Optimizer, OptimizerSettings
from evomerge.optimizers.chain import Chain, Link
from evomerge.optimizers.picked import AutoChoice, PickedLink
from evomerge.optimizers.search_context import SearchContext

EPOCHS = 6  # later ones gain little, and learn the search documents by heart
# Settings of gradient. The weight of one tensor may take twice the step that of all takes.
TRAINING: Mapping[str, Any] = {"granularity": "tensor", "epochs": EPOCHS, "learning_rate": 0.1}
LEAST_WITH_GRADIENT = 20  # trials; of fewer the epochs would leave the search none
MOST_DIMENSIONS = 64  # of a Gaussian process
MOST_TRIALS = 200  # likewise
_UNLIMITED = 100  # trials of whoever does not say how many


@dataclass(frozen=True)
class Facts:
    """What the rule looks at.

    Attributes:
        space: What is searched.
        budget: Trials.
        n_objectives: Losses of a trial.
        workers: Trials at once.
        population_size: Trials of a generation, where the genome says.
        no_gradient: Why nothing can be trained, in words; empty where it can.
        n_conditional: Coordinates that act only where others say so.
    """

    space: Space
    budget: int
    n_objectives: int = 1
    workers: int = 1
    population_size: int | None = None
    no_gradient: str = ""
    n_conditional: int = 0


def chosen(facts: Facts) -> AutoChoice:
    """The rule; docs/optimizers.md has it as a table."""
    n_dims = facts.space.n_dims
    told = [counted(n_dims, "dimension")]
    if facts.n_objectives > 1:
        told = [counted(facts.n_objectives, "objective")]
        return AutoChoice((_search("nsga2", facts, facts.budget),), told[0])
    left, links = facts.budget, []
    if facts.budget < LEAST_WITH_GRADIENT:
        told.append(f"no gradient below {LEAST_WITH_GRADIENT} trials")
    elif facts.no_gradient:
        told.append(f"no gradient: {facts.no_gradient}")
    else:
        links.append(PickedLink(name="gradient", budget=EPOCHS, **TRAINING))
        left -= EPOCHS
    name, why = _searcher(facts)
    return AutoChoice((*links, _search(name, facts, left)), "; ".join([*told, *why]))


def _searcher(facts: Facts) -> tuple[str, list[str]]:
    """Who searches by trials, and what of the facts says so beside the dimensions."""
    if facts.n_conditional:
        return "nsga2", [f"{facts.n_conditional} of them act only where others say so"]
    if facts.workers > 1:
        return "cma_es", [f"{facts.workers} workers, to which gp proposes one after the other"]
    if facts.space.n_dims > MOST_DIMENSIONS:
        return "cma_es", [f"more than {MOST_DIMENSIONS}"]
    if facts.budget > MOST_TRIALS:
        return "cma_es", [f"more than {MOST_TRIALS} trials"]
    return "gp", []


def _search(name: str, facts: Facts, budget: int) -> PickedLink:
    return PickedLink(name=name, budget=budget, population_size=facts.population_size)


class Auto(Chain):
    """The optimizers that the rule picks, one after the other.

    Args:
        space: See :class:`Optimizer`, like the rest.
        seed: Root of the seeds of all of them.
        population_size: Of the search by trials.
        n_objectives: Columns of the losses.
        settings: It has none.
        context: Says of the budget, and whether there is somebody to train.
    """

    plans_by_budget: bool = True
    proving_trials: ClassVar[int] = 15

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        population_size: int | None = None,
        n_objectives: int = 1,
        settings: OptimizerSettings | None = None,
        context: SearchContext | None = None,
    ) -> None:
        if population_size is not None and population_size < self.min_population_size:
            raise ValueError(f"Auto needs a population of 1 or more, got {population_size}")
        context = context or SearchContext()
        can_train = context.trainer is not None and all(isinstance(p, Real) for p in space)
        facts = Facts(
            space,
            context.budget or _UNLIMITED,
            n_objectives,
            population_size=None if population_size == 1 else population_size,  # its default
            no_gradient="" if can_train else "nobody trains",
        )
        super().__init__(
            _built(chosen(facts).links, seed, n_objectives),
            space,
            seed=seed,
            n_objectives=n_objectives,
            context=context,
        )


def _built(links: Sequence[OptimizerLink], seed: int, n_objectives: int) -> list[Link]:
    def make(link: OptimizerLink, index: int, space: Space, context: SearchContext) -> Optimizer:
        kind = OPTIMIZERS[link.name]
        return kind(
            space,
            seed=stream_seed(seed, "optimizer", "link", index),
            population_size=link.population_size,
            n_objectives=n_objectives,
            settings=kind.Settings.model_validate(link.settings),
            context=context,
        )

    return [
        Link(
            link.name,
            OPTIMIZERS[link.name],
            partial(make, link, index),
            link.budget or 1,
            is_optional=True,
        )
        for index, link in enumerate(links)
    ]

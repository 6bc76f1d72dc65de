"""Optimizers that follow one another.

Each link begins at the best trial so far and is told every trial made before it, so that what
one learned the next need not pay for again. What was scored by a recipe that no point of the
space means says nothing of its genotype, which is the point nearest to it: the links after it are
not told. Where it is the best so far, that point is a trial of its own before the next link
begins, so that every link begins at something that was scored. While trials are out, the link says
whether it can be asked; the next one begins when nothing is out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.errors import EvomergeError, LedgerError, LostFileError, Problem
from evomerge.nouns.evaluation import Evaluation
from evomerge.nouns.origin import proposed
from evomerge.nouns.space import Space
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.search_context import LinkArtifacts, SearchContext

_ENDED = "ended.txt"  # says after how many tells a link could not go on
_NEAR = 1e-9  # a coordinate that was a value in between is as good as the same

Array = NDArray[np.float64]
MakeOptimizer = Callable[[Space, SearchContext], Optimizer]


@dataclass(frozen=True)
class Link:
    """One optimizer of a chain.

    Attributes:
        name: Of the optimizer.
        kind: Its class.
        make: Builds it over a space with the start it is to have.
        budget: Trials it may propose; what it leaves goes to the next one.
        is_optional: Whether the next one goes on where it cannot.
    """

    name: str
    kind: type[Optimizer]
    make: MakeOptimizer
    budget: int
    is_optional: bool = False


@dataclass(frozen=True)
class ToldGeneration:
    """What one ``tell`` said.

    Attributes:
        genotypes: Shape (k, n_dims).
        losses: Shape (k,) or (k, n_objectives).
        evaluations: Of each; empty where nobody knows.
        is_meant: Whether the recipe that was scored is the genotype's own, shape (k,).
    """

    genotypes: Array
    losses: Array
    evaluations: Sequence[Evaluation | None]
    is_meant: NDArray[np.bool_]

    @property
    def meant(self) -> ToldGeneration:
        """The trials that say something of their genotypes."""
        kept = np.flatnonzero(self.is_meant)
        evaluations = [self.evaluations[i] for i in kept.tolist()] if self.evaluations else ()
        return ToldGeneration(
            self.genotypes[kept], self.losses[kept], evaluations, self.is_meant[kept]
        )


@dataclass(frozen=True)
class _Ask:
    """What is known of a genotype that is out.

    Attributes:
        is_whole: Whether all that the link asked for with it was handed on; else it is not told.
        is_meant: Whether its recipe is the genotype's own.
    """

    is_whole: bool
    is_meant: bool


class CombinedOptimizer(Optimizer):
    """Is made of other optimizers.

    Args:
        links: At least one.
        space: See :class:`Optimizer`, like the rest.
        seed: The links have seeds of their own; this one is not used.
        n_objectives: Columns of the losses; every link can minimise so many.
        context: What the links may know and use; each keeps its things apart.
    """

    multi_objective: ClassVar[bool] = True

    def __init__(
        self,
        links: Sequence[Link],
        space: Space,
        *,
        seed: int,
        n_objectives: int = 1,
        context: SearchContext | None = None,
    ) -> None:
        self._links = tuple(links)
        self.needs_documents = any(link.kind.needs_documents for link in links)
        self.needs_tokens = any(link.kind.needs_tokens for link in links)
        adaptive = [link.kind for link in links if link.kind.is_adaptive]
        self.is_adaptive = bool(adaptive)
        self.learns_by_trials = any(kind.learns_by_trials for kind in adaptive)
        self.plans_by_budget = self.plans_by_budget or links[-1].kind.plans_by_budget
        super().__init__(space, seed=seed, n_objectives=n_objectives, context=context)

    def _made(self, position: int, space: Space, **changes: Any) -> Optimizer:
        """One of them, in a context of its own."""
        link = self._links[position]
        artifacts = LinkArtifacts(self.context.artifacts, self._folder_of(position))
        return link.make(space, replace(self.context, artifacts=artifacts, **changes))

    def _folder_of(self, position: int) -> str:
        """Where one of them keeps its things."""
        return f"{position}-{self._links[position].name}"


class Chain(CombinedOptimizer):
    """Asks one optimizer after the other.

    Args:
        links: At least one, in their order.
        space: See :class:`Optimizer`, like the rest.
        seed: The links have seeds of their own; this one is not used.
        n_objectives: Columns of the losses; every link can minimise so many.
        context: What the links may know and use; each keeps its things apart.
    """

    with_others_out: ClassVar[str] = (
        "what the present one gives; waits for all before another one begins"
    )

    def _start(self) -> None:
        self._told: list[ToldGeneration] = []
        self._evaluations: Sequence[Evaluation | None] = ()
        self._asks: dict[int, _Ask] = {}  # number of a genotype that is out -> its ask
        self._has_proposed = False
        self._is_stuck = False  # the link could not go on, and what it asked for is out
        self._position = 0
        self._left = self._links[0].budget
        self._untried: Array | None = None  # where a link is to begin, until it is scored
        self._current = self._begin(self.space)
        self.population_size = self._current.population_size
        self.asks_ahead = self._current.asks_ahead
        self._move_on()

    def _begin(self, space: Space) -> Optimizer:
        optimizer = self._made(
            self._position, space, budget=self._left, begins_at_best=space is not self.space
        )
        for told in self._meant:
            optimizer.tell(told.genotypes, told.losses, told.evaluations)
        return optimizer

    @property
    def _meant(self) -> list[ToldGeneration]:
        """What was told of points of the space."""
        return [meant for told in self._told if len((meant := told.meant).genotypes)]

    @property
    def is_finished(self) -> bool:
        """Whether the last link has nothing more to ask."""
        return self._untried is None and self._is_at_last and self._current.is_finished

    @property
    def can_ask(self) -> bool:
        """Whether the link can be asked, and has trials left beside those that are out."""
        if not self._out:
            return True
        is_own = self._untried is None and not self._current.is_finished
        has_room = self._is_at_last or self._left > len(self._asks)
        return is_own and has_room and not self._is_stuck and self._current.can_ask

    @property
    def most_out(self) -> int | None:
        """As many as of the link."""
        return self._current.most_out

    @property
    def hears_apart(self) -> bool:
        """Whether the link does."""
        return self._untried is None and self._current.hears_apart

    @property
    def activity(self) -> str:
        """What the link does where that takes long."""
        return self._current.activity if self._untried is None else ""

    @property
    def is_waiting(self) -> bool:
        """Whether the link waits for somebody else."""
        return self._untried is None and self._current.is_waiting

    def prepare(self) -> None:
        """As the link does."""
        self._current.prepare()

    def recipe_config(self, row: int) -> dict[str, object] | None:
        """The configuration of the link's own recipe."""
        return self._current.recipe_config(row) if self._untried is None else None

    def _ask(self) -> Array:
        asked = self._asked_of_link()
        wanted = asked if self._is_at_last else asked[: self._left - len(self._asks)]
        for row in range(len(wanted)):
            is_meant, is_whole = self.recipe_config(row) is None, len(wanted) == len(asked)
            self._asks[self._out.n_asked + row] = _Ask(is_whole, is_meant)
        name = self._links[self._position].name
        origins = self._current.origins if self._untried is None else (proposed("start"),)
        own = (origins or [proposed()] * len(asked))[: len(wanted)]
        self.origins = tuple(origin.of_link(self._position, name) for origin in own)
        return wanted

    def _asked_of_link(self) -> Array:
        """What the link asks for; the next one, where it cannot go on and others can.

        Before its first trial the place where it is to begin, if nobody scored that.

        A run that goes on, perhaps where there is more memory, leaves it at the same trial. While
        something is out nobody takes its place: there is nothing to ask for until that is told.
        """
        self._is_stuck = False
        if self._untried is not None:
            return np.array(self._untried[None])
        link = self._links[self._position]
        if self._is_at_last or not link.is_optional:
            return self._current.ask()
        artifacts, now = (
            LinkArtifacts(self.context.artifacts, self._folder_of(self._position)),
            str(len(self._told)).encode(),
        )
        if artifacts.recall(_ENDED) != now:
            try:
                return self._current.ask()
            except (LedgerError, LostFileError):  # not its own, and to be mended
                raise
            except EvomergeError as error:
                if self._out:
                    self._is_stuck = True
                    return np.empty((0, self.space.n_dims))
                artifacts.keep(_ENDED, now)
                self.context.notify(
                    f"{link.name} cannot go on, {self._links[self._position + 1].name} takes its "
                    f"place: {Problem(error.problems[0].what, fix=error.problems[0].fix)}"
                )
        self._go_on()
        return self._asked_of_link()

    @property
    def _is_at_last(self) -> bool:
        return self._position == len(self._links) - 1

    def _move_on(self) -> None:
        """Goes to the next link once this one has spent its trials or has no more to ask."""
        while (
            self._untried is None
            and not self._is_at_last
            and (self._left <= 0 or self._current.is_finished)
            and not self._out
        ):
            self._go_on()

    def _go_on(self) -> None:
        self.context.end_training()
        self._position += 1
        self._left = max(self._left, 0) + self._links[self._position].budget
        best = self._best(self._told)
        if self._has_proposed and best is not None and not self._was_tried(best):
            self._untried = best
        else:
            self._enter()

    def _enter(self) -> None:
        """Begins the link, at the best of what was scored as a point of the space."""
        best = self._best(self._meant) if self._has_proposed else None
        self._current = self._begin(self.space if best is None else self.space.starting_at(best))
        self.population_size = self._current.population_size
        self.asks_ahead = self._current.asks_ahead

    def _best(self, trials: Sequence[ToldGeneration]) -> Array | None:
        """The best of some trials, by the sum of its losses; None while all have failed."""
        losses = [told.losses.reshape(len(told.losses), -1).sum(axis=1) for told in trials]
        if not losses or not np.isfinite(np.concatenate(losses)).any():
            return None
        genotypes = np.concatenate([told.genotypes for told in trials])
        best: Array = genotypes[int(np.argmin(np.concatenate(losses)))]
        return best

    def _was_tried(self, genotype: Array) -> bool:
        """Whether its own recipe was a trial."""
        return any(
            bool((np.abs(told.genotypes - genotype) < _NEAR).all(axis=1).any())
            for told in self._meant
        )

    def _see(self, evaluations: Sequence[Evaluation | None]) -> None:
        self._evaluations = evaluations

    def _learn(self, genotypes: Array, losses: Array) -> None:
        told = self._remember(genotypes, losses, np.ones(len(genotypes), dtype=bool))
        if self._untried is None:  # the link that is to begin is told of all
            self._current.tell(told.genotypes, told.losses, told.evaluations)
        self._move_on()

    def _tell(self, genotypes: Array, losses: Array) -> None:
        asks = [self._asks.pop(number) for number in self._heard]
        told = self._remember(genotypes, losses, np.array([ask.is_meant for ask in asks]))
        self._has_proposed = True
        if self._untried is not None:  # none of the link's own trials
            self._untried = None
            self._enter()
        else:
            self._left -= 0 if self._current.is_at_start else len(genotypes)
            if asks[0].is_whole:
                self._current.tell(told.genotypes, told.losses, told.evaluations)
        self._move_on()

    def _remember(
        self, genotypes: Array, losses: Array, is_meant: NDArray[np.bool_]
    ) -> ToldGeneration:
        told = ToldGeneration(genotypes, losses, self._evaluations, is_meant)
        self._evaluations = ()
        self._told.append(told)
        return told

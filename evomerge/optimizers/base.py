"""The contract of every optimizer: ask and tell in the unit cube."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from evomerge.foundations.errors import Problem
from evomerge.genome.schema import Genome, OptimizerLink
from evomerge.nouns.evaluation import Evaluation
from evomerge.nouns.origin import Origin
from evomerge.nouns.space import Real, Space
from evomerge.optimizers.outstanding import Outstanding
from evomerge.optimizers.search_context import SearchContext


class OptimizerSettings(BaseModel):
    """Settings of one optimizer beside the common ones; subclasses add fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's ``true`` is 1 to Python, and never what a user means by a number."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = {annotation, *get_args(annotation)}
        if isinstance(value, bool) and kinds & {int, float}:
            raise PydanticKnownError("int_type" if int in kinds else "float_type")
        return value


class TrainingSettings(OptimizerSettings):
    """Settings of an optimizer that ``trains``; what it takes is foreseen by them."""

    @property
    def is_by_tensor(self) -> bool:
        """Whether it learns a number for each tensor and model, whatever the space has."""
        return False

    def n_checkpoints(self, n_trials: int | None) -> int:
        """Models that so many of its trials leave in the run folder."""
        return 0


class Optimizer(ABC):
    """Minimises losses over the unit cube by ask and tell.

    Subclasses write ``_ask``, ``_tell`` and, if knowing finished trials helps them,
    ``_learn``; the checks live here, once. Nothing is pickled: the state of an optimizer is
    rebuilt by the same calls. What they cannot repeat for nothing is in ``context.artifacts``.

    Args:
        space: Kinds of the coordinates, and where a search starts that knows no trial.
        seed: Root of all its randomness; same seed and same calls, same run.
        population_size: Genotypes per ``ask``, at least ``min_population_size``; None takes the
            optimizer's default.
        n_objectives: Columns of the losses; > 1 only where ``multi_objective``.
        settings: An instance of ``Settings``; None takes the defaults.
        context: What it may know and use beside the cube.

    Attributes:
        origins: What the optimizer says of each genotype of the last ``ask``; empty where it has
            nothing to say of them.

    Raises:
        ValueError: more objectives, or a smaller population, than the optimizer can handle.
    """

    Settings: ClassVar[type[OptimizerSettings]] = OptimizerSettings
    multi_objective: ClassVar[bool] = False
    is_adaptive: bool = True  # losses steer what is asked next
    learns_by_trials: bool = True  # the more dimensions, the more trials it takes
    only_ranks_matter: ClassVar[bool] = False  # a monotone map of the losses: the same run
    needs_documents: bool = False  # ``_see`` reads per-document results
    needs_tokens: bool = False  # learns from the tokens of what was written
    continuous_only: ClassVar[bool] = False  # cannot choose, nor count
    looks_beyond_models: ClassVar[bool] = False  # begins at their sums, of either sign
    asks_any_time: ClassVar[bool] = False  # while genotypes of earlier asks are out, not told
    is_bounded: ClassVar[bool] = False  # of its population each is out once at most
    asks_ahead: bool = False  # an ask takes long: it comes before one of several slots is free
    with_others_out: ClassVar[str] = ""  # what it then gives, or what it waits for; for people
    trains: ClassVar[bool] = False  # by its context's trainer, in the process of the run
    takes_migrants: ClassVar[bool] = False  # ``_learn`` changes what is asked in mid-run too
    plans_by_budget: bool = False  # with more trials to come the first are others
    min_population_size: ClassVar[int] = 1
    proving_trials: ClassVar[int] = 200  # trials after which it must beat random search

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
        if n_objectives > 1 and not self.multi_objective:
            raise ValueError(f"{type(self).__name__} minimises one loss, got {n_objectives}")
        if population_size is None:
            population_size = self.default_population_size(space.n_dims)
        if population_size < self.min_population_size:
            raise ValueError(
                f"{type(self).__name__} needs a population of {self.min_population_size} or "
                f"more, got {population_size}"
            )
        self.space = space
        self.seed = seed
        self.n_objectives = n_objectives
        self.population_size = population_size
        self.settings = settings if settings is not None else self.Settings()
        self.context = context if context is not None else SearchContext()
        self.origins: tuple[Origin, ...] = ()
        self._out = Outstanding()
        self._heard: tuple[int, ...] = ()  # the numbers of the genotypes of a ``_tell``
        self._has_begun = False
        self._before: list[tuple[float, NDArray[np.float64]]] = []
        self._start()

    @classmethod
    def default_population_size(cls, n_dims: int) -> int:
        """Genotypes per ``ask`` where the genome does not say."""
        return 1

    @classmethod
    def obstacles(cls, space: Space, genome: Genome, settings: Any) -> Iterator[Problem]:
        """What keeps it from searching a space, each with what to use instead; before a run.

        A problem's place is a key of the optimizer's block, or empty.
        """
        discrete = [p.name for p in space if not isinstance(p, Real)]
        if cls.continuous_only and discrete:
            yield Problem(
                f"{', '.join(discrete)} cannot vary here: this optimizer moves along continuous "
                "parameters only",
                fix="Fix their values, or use optimizer: cma_es, tpe or random.",
            )

    @classmethod
    def oddities(
        cls, space: Space, link: OptimizerLink, settings: Any, n_before: int
    ) -> Iterator[Problem]:
        """What a user can hardly mean, though it can be searched; placed as obstacles are.

        Args:
            space: What is searched.
            link: Its block of the genome, with the trials it may propose.
            settings: An instance of ``Settings``.
            n_before: Trials that other optimizers propose before it.
        """
        n_startup = getattr(settings, "n_startup_trials", 0) - n_before
        if link.budget is not None and n_startup >= link.budget:
            is_given = "n_startup_trials" in settings.model_fields_set
            yield Problem(
                f"the first {settings.n_startup_trials} trials are drawn at random, the budget is "
                f"{link.budget}: nothing is learned from any",
                "n_startup_trials" if is_given else "budget",
                "Make it smaller, or raise budget."
                if is_given
                else f"Raise it above {settings.n_startup_trials}.",
            )

    @classmethod
    def notes(cls, space: Space, context: SearchContext, settings: Any) -> Iterator[Problem]:
        """What is good to know of it in a space, placed as obstacles are.

        Args:
            space: What is searched.
            context: ``experts``, ``places`` and ``has_shares`` alone.
            settings: An instance of ``Settings``.
        """
        yield from ()

    @classmethod
    def unmeant(cls, settings: Any) -> Problem | None:
        """What it has scored that no point of the space means, at a key; None: nothing."""
        return None

    @property
    def is_finished(self) -> bool:
        """Whether it has nothing more to ask, whatever budget is left."""
        return False

    @property
    def can_ask(self) -> bool:
        """Whether it can be asked now, whatever is out."""
        return self.asks_any_time or not self._out

    @property
    def most_out(self) -> int | None:
        """Genotypes that can be out at once; None: any number."""
        return None if self.asks_any_time and not self.is_bounded else self.population_size

    @property
    def hears_apart(self) -> bool:
        """Whether the genotypes of the last ``ask`` may be told one by one, in any order."""
        return self.asks_any_time

    @property
    def activity(self) -> str:
        """What the next ``ask`` does where that takes long, for people; else empty."""
        return ""

    @property
    def is_waiting(self) -> bool:
        """Whether an ``ask`` waits for somebody else now, so that leaving it loses nothing."""
        return False

    @property
    def is_at_start(self) -> bool:
        """Whether the last ``ask`` was only for the place it begins at, which nobody scored."""
        return False

    def prepare(self) -> None:  # noqa: B027  # most have it from their first line on
        """Imports what the first ``ask`` needs; called while other trials run."""

    def recipe_config(self, row: int) -> dict[str, Any] | None:
        """The mergekit configuration of a genotype of the last ``ask`` that no point can mean."""
        return None

    def ask(self) -> NDArray[np.float64]:
        """Next genotypes, (k, n_dims) in [0, 1], k <= population_size; 0 if it finds it must wait.

        Raises:
            RuntimeError: genotypes are out, and it waits for them.
        """
        if not self.can_ask:
            raise RuntimeError("ask() was called twice without tell() in between")
        if not self._has_begun:
            self._begin_at_best()
        asked: NDArray[np.float64] = np.clip(self._ask(), 0.0, 1.0)
        self._out.add(asked, is_apart=self.hears_apart)
        return np.array(asked)

    def tell(
        self,
        genotypes: NDArray[np.float64],
        losses: NDArray[np.float64],
        evaluations: Sequence[Evaluation | None] = (),
    ) -> None:
        """Losses of the genotypes of an ask, or of some where it ``hears_apart``.

        With nothing out they are those of trials made elsewhere, see :meth:`learn`.

        Args:
            genotypes: Shape (k, n_dims); not changed.
            losses: Shape (k,) or (k, n_objectives); ``inf`` is a failed trial; not changed.
            evaluations: What the losses were made from, None for a failed trial; with
                documents where ``needs_documents``. Empty where nobody knows.

        Raises:
            ValueError: shapes differ, or a loss is NaN.
        """
        if not self._out:
            self.learn(genotypes, losses, evaluations)
            return
        losses = self._checked(genotypes, losses)
        self._heard = self._out.withdraw(genotypes)
        if evaluations:
            self._see(evaluations)
        self._tell(genotypes.copy(), losses)

    def learn(
        self,
        genotypes: NDArray[np.float64],
        losses: NDArray[np.float64],
        evaluations: Sequence[Evaluation | None] = (),
    ) -> None:
        """Losses of trials made elsewhere, whatever is out; see :meth:`tell`."""
        losses = self._checked(genotypes, losses)
        if evaluations:
            self._see(evaluations)
        if not self._has_begun:
            sums = losses.reshape(len(losses), -1).sum(axis=1)
            self._before += zip(sums.tolist(), genotypes.copy(), strict=True)
        self._learn(genotypes.copy(), losses)

    def _begin_at_best(self) -> None:
        """Begins at the best trial made before the search; near it where that is a seed.

        Among equals a seed goes first, then what lies nearest to where the space starts: the
        average rather than a parent, which stands in a corner.
        """
        self._has_begun = True
        before, self._before = self._before, []
        least = min((loss for loss, _ in before), default=np.inf)
        if self.context.begins_at_best or not np.isfinite(least):
            return
        best = [genotype for loss, genotype in before if loss == least]
        seeds = [genotype for genotype in best if self._is_seed(genotype)]
        if seeds:
            self.space = self.space.starting_at(seeds[0])
            self.context = replace(self.context, begins_at_best=True)
        elif not self.context.keeps_start:
            start = self.space.initial
            nearest = min(best, key=lambda genotype: float(np.abs(genotype - start).sum()))
            self.space = self.space.starting_at(nearest)

    def _is_seed(self, genotype: NDArray[np.float64]) -> bool:
        seeds = self.context.seeds
        return seeds is not None and bool((seeds == genotype).all(axis=1).any())

    def _checked(
        self, genotypes: NDArray[np.float64], losses: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        if genotypes.ndim != 2 or genotypes.shape[1] != self.space.n_dims:
            raise ValueError(
                f"expected genotypes of shape (k, n_dims) (i.e. (k, {self.space.n_dims})), "
                f"got {genotypes.shape}"
            )
        columns: NDArray[np.float64] = losses.reshape(len(losses), -1)
        if columns.shape != (len(genotypes), self.n_objectives):
            raise ValueError(
                f"expected losses of shape (k, n_objectives) (i.e. ({len(genotypes)}, "
                f"{self.n_objectives})), got {losses.shape}"
            )
        if np.isnan(columns).any():
            index = int(np.argwhere(np.isnan(columns).any(axis=1))[0, 0])
            raise ValueError(f"loss {index} is NaN; a failed trial is told as inf")
        return np.array(columns[:, 0] if self.n_objectives == 1 else columns)

    @abstractmethod
    def _start(self) -> None:
        """Sets the first state from space, seed, population_size and settings."""

    @abstractmethod
    def _ask(self) -> NDArray[np.float64]:
        """Next genotypes, shape (k, n_dims), 1 <= k <= population_size; sets ``origins``."""

    @abstractmethod
    def _tell(self, genotypes: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
        """Losses of genotypes that are out, (k,) or (k, n_objectives).

        They are all of the last ``_ask``, or, where it ``hears_apart``, any, in any order; their
        numbers are in ``_heard``.
        """

    def _learn(self, genotypes: NDArray[np.float64], losses: NDArray[np.float64]) -> None:  # noqa: B027  # nothing to learn is a fine default
        """Losses of trials made elsewhere; ignored unless overridden."""

    def _see(self, evaluations: Sequence[Evaluation | None]) -> None:  # noqa: B027  # most read the losses alone
        """What the tasks said of the genotypes whose losses come next, in their order."""

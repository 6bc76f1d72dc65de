"""Optimizers as the contract suites build them: what some need beside a space.

Chains and islands stand among them, each made of two that are there too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from evomerge.nouns.space import Real, Space
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.chain import Chain, Link
from evomerge.optimizers.islands import Islands
from evomerge.optimizers.search_context import Artifacts, InMemory, SearchContext
from tests.optimizers.toy_trainer import FormulaTrainer, Slope, ToyTrainer
from tests.scripted_llm import ScriptedSettings


def _trained(artifacts: Artifacts) -> dict[str, Any]:
    return {"context": SearchContext(artifacts=artifacts, trainer=ToyTrainer)}


# Name -> what it needs beside the common arguments, made from where it may keep things.
EXTRAS: Mapping[str, Callable[[Artifacts], dict[str, Any]]] = {
    "llm": lambda artifacts: {
        "context": SearchContext(artifacts=artifacts),
        "settings": ScriptedSettings(),
    },
    **dict.fromkeys(("auto", "gradient"), _trained),
}


def _links(seed: int, size: int | None, budgets: Mapping[str, int]) -> list[Link]:
    def maker(index: int, name: str) -> Callable[[Space, SearchContext], Optimizer]:
        def make(space: Space, context: SearchContext) -> Optimizer:
            own = 2 * seed + index
            return OPTIMIZERS[name](space, seed=own, population_size=size, context=context)

        return make

    return [
        Link(name, OPTIMIZERS[name], maker(index, name), budget)
        for index, (name, budget) in enumerate(budgets.items())
    ]


class _Composed:
    """What the suites ask of a class, for optimizers that are made of two others.

    Attributes:
        budgets: Optimizer -> trials it may propose.
        own: What its class takes beside the links.
    """

    multi_objective: ClassVar[bool] = False
    min_population_size: ClassVar[int] = 4
    budgets: ClassVar[Mapping[str, int]]
    own: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self, space: Space, *, seed: int, population_size: int | None = None, **others: Any
    ) -> None:
        others.pop("settings", None)  # the links have their own
        links: Any = _links(seed, population_size, self.budgets)
        super().__init__(links, space, seed=seed, **self.own, **others)

    @classmethod
    def default_population_size(cls, n_dims: int) -> int:
        return cls.min_population_size


class ChainOfTwo(_Composed, Chain):
    """CMA-ES, then niches from what it found."""

    budgets: ClassVar = {"cma_es": 30, "niches": 200}


class IslandsOfTwo(_Composed, Islands):
    """CMA-ES and niches side by side; the second hears of the best of the first."""

    budgets: ClassVar = {"cma_es": 100, "niches": 100}
    own: ClassVar = {"migrate_every": 10}


COMPOSED: Mapping[str, type[Optimizer]] = {"chain": ChainOfTwo, "islands": IslandsOfTwo}
NAMES = tuple(sorted((*OPTIMIZERS, *COMPOSED)))

_TRAINED = ("auto", "gradient")  # these go down a slope


def extras(name: str, artifacts: Artifacts | None = None) -> dict[str, Any]:
    """Arguments of an optimizer that the suites cannot know."""
    make = EXTRAS.get(name)
    return {} if make is None else make(artifacts or InMemory())


class Case:
    """An optimizer class that is built with all it needs."""

    def __init__(self, name: str, slope: Slope | None = None) -> None:
        self.name = name
        self.kind = COMPOSED[name] if name in COMPOSED else OPTIMIZERS[name]
        self._slope = slope

    @property
    def is_guided(self) -> bool:
        """Whether losses steer it."""
        return bool(self.kind.is_adaptive)

    def on(self, slope: Slope) -> Case:
        """The same on a formula of that slope; its losses alone show it to most."""
        return Case(self.name, slope) if self.name in _TRAINED else self

    def __call__(self, space: Space, **arguments: Any) -> Optimizer:
        if self.kind.continuous_only:
            space = Space(tuple(Real(p.name, 0.0, 1.0) for p in space))
        if self._slope is not None:
            trainer = partial(FormulaTrainer, self._slope)
            arguments = {"context": SearchContext(trainer=trainer), **arguments}
        return self.kind(space, **{**extras(self.name), **arguments})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kind, name)

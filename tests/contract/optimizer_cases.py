"""Optimizers as the contract suites build them: what some need beside a space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.context import InMemory, Keepsakes, SearchContext
from evomerge.space import Real, Space
from tests.optimizers.toy_trainer import FormulaTrainer, Slope, ToyTrainer
from tests.scripted_llm import ScriptedSettings

# Name -> what it needs beside the common arguments, made from where it may keep things.
EXTRAS: Mapping[str, Callable[[Keepsakes], dict[str, Any]]] = {
    "llm": lambda keepsakes: {
        "context": SearchContext(keepsakes=keepsakes),
        "settings": ScriptedSettings(),
    },
    "gradient": lambda keepsakes: {
        "context": SearchContext(keepsakes=keepsakes, trainer=ToyTrainer)
    },
}


_TRAINED = ("gradient",)  # these go down a slope


def extras(name: str, keepsakes: Keepsakes | None = None) -> dict[str, Any]:
    """Arguments of an optimizer that the suites cannot know."""
    make = EXTRAS.get(name)
    return {} if make is None else make(keepsakes or InMemory())


class Case:
    """An optimizer class that is built with all it needs."""

    def __init__(self, name: str, slope: Slope | None = None) -> None:
        self.name = name
        self.kind = OPTIMIZERS[name]
        self._slope = slope

    @property
    def is_guided(self) -> bool:
        """Whether anything steers it: losses, or the slope that a trainer goes down."""
        return self.kind.is_adaptive or self.name in _TRAINED

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

"""The parameter values of one output tensor."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from mergekit.common import ModelReference

Made = TypeVar("Made")


@dataclass(frozen=True)
class Values:
    """The resolved parameters of one output tensor.

    Attributes:
        shared: By name.
        models: The inputs in order, which is always the same for one tensor of a plan.
        settings: By name, for each input.
    """

    shared: Mapping[str, Any]
    models: tuple[ModelReference, ...]
    settings: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(
        cls, shared: Mapping[str, Any], per_input: Mapping[ModelReference, Mapping[str, Any]]
    ) -> Values:
        """As mergekit's resolver gives them."""
        return cls(shared, tuple(per_input), tuple(per_input.values()))

    @cached_property
    def per_input(self) -> Mapping[ModelReference, Mapping[str, Any]]:
        """The settings by model."""
        return dict(zip(self.models, self.settings, strict=True))

    @cached_property
    def _made(self) -> dict[Hashable, Any]:
        return {}

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is made of these values, for all tensors that share them.

        Args:
            key: Says what it is.
            make: Called where nobody asked for it yet.
        """
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def equal(self, other: Values) -> bool:
        """Whether all are the same, where both belong to one tensor of a plan."""
        return self is other or (self.shared == other.shared and self.settings == other.settings)

"""A recipe without its numbers, for which mergekit's parameter resolver runs once.

Recipes of one form differ in the numbers of their parameters only. mergekit's resolver is given
a symbol for every number; what it does with the symbols is then repeated with the numbers
of every recipe of the form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mergekit.common import ModelReference
from mergekit.merge_methods.base import MergeMethodSpec, ParameterSpec

from evomerge.merging.values import Values
from evomerge.recipe.walk import with_settings

_NUMERIC = (float, int, float | None, int | None)  # types of parameters

Numbers = Sequence[float]
Settings = Mapping[str, Any]
Way = Callable[[Numbers], Any]  # from a recipe's numbers to a value; equal ones give the same
Ways = tuple[tuple[str, Way], ...]  # by name


@dataclass(frozen=True)
class Form:
    """A recipe's form and its numbers.

    Attributes:
        config: The recipe with places for the numbers of its parameters: 0.0, 1.0 and so on.
        text: Equal for equal forms.
        numbers: By place.
    """

    config: Mapping[str, Any]
    text: str
    numbers: Numbers

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Form:
        """A recipe's."""
        numbers: list[float] = []
        placed = with_settings(config, lambda settings: _placed_setting(settings, numbers))
        return cls(placed, repr(placed), numbers)


def _placed_setting(value: Any, numbers: list[float]) -> Any:
    if type(value) is float or type(value) is int:
        numbers.append(value)
        return float(len(numbers) - 1)
    if isinstance(value, Mapping):
        return {key: _placed_setting(entry, numbers) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_placed_setting(entry, numbers) for entry in value]
    return value


class UnclearError(Exception):
    """A parameter that may or may not be a number, whatever the form says."""


class SymbolicSpec:
    """Stands for a method's specification while mergekit's resolver is given symbols.

    Args:
        spec: mergekit's.
    """

    def __init__(self, spec: MergeMethodSpec) -> None:
        self.shared_parameters = tuple(map(_SymbolicParameter, spec.shared_parameters))
        self.input_parameters = tuple(map(_SymbolicParameter, spec.input_parameters))


@dataclass(frozen=True)
class Finder:
    """Finds the values of all tensors that mergekit resolves in the same way.

    Attributes:
        inputs: Equal where the models are.
        shared: Of the shared parameters.
        settings: Of those of each model.
        models: The inputs in order.
    """

    inputs: int
    shared: Ways
    settings: tuple[Ways, ...]
    models: tuple[ModelReference, ...] = field(compare=False)

    @classmethod
    def of(
        cls, inputs: int, shared: Settings, per_input: Mapping[ModelReference, Settings]
    ) -> Finder:
        """From what mergekit's resolver gives for symbols."""
        settings = tuple(map(_ways, per_input.values()))
        return cls(inputs, _ways(shared), settings, tuple(per_input))

    def values(self, numbers: Numbers) -> Values:
        """Those of one recipe of the form."""
        settings = tuple({name: way(numbers) for name, way in ways} for ways in self.settings)
        return Values({name: way(numbers) for name, way in self.shared}, self.models, settings)


def _ways(settings: Settings) -> Ways:
    return tuple(
        (name, value.way if isinstance(value, _Symbol) else _Constant(type(value), value))
        for name, value in settings.items()
    )


@dataclass(frozen=True)
class _Constant:
    kind: type
    value: Any

    def __call__(self, numbers: Numbers) -> Any:
        return self.value


@dataclass(frozen=True)
class _Number:
    place: int

    def __call__(self, numbers: Numbers) -> Any:
        return numbers[self.place]


@dataclass(frozen=True)
class _Scaled:
    factor: float
    way: Way

    def __call__(self, numbers: Numbers) -> Any:
        return self.factor * self.way(numbers)


@dataclass(frozen=True)
class _Sum:
    one: Way
    other: Way

    def __call__(self, numbers: Numbers) -> Any:
        return self.one(numbers) + self.other(numbers)


@dataclass(frozen=True)
class _Validated:
    validate: Way
    way: Way

    def __call__(self, numbers: Numbers) -> Any:
        return self.validate(self.way(numbers))


class _Symbol(float):
    """A number, and what mergekit computes of numbers, before they are known."""

    way: Way

    @classmethod
    def of(cls, way: Way) -> _Symbol:
        symbol = cls()
        symbol.way = way
        return symbol

    def __rmul__(self, factor: float) -> _Symbol:
        return _Symbol.of(_Scaled(factor, self.way))

    def __add__(self, other: float) -> _Symbol:
        if not isinstance(other, _Symbol):
            raise UnclearError
        return _Symbol.of(_Sum(self.way, other.way))


@dataclass(frozen=True)
class _Default:
    value: Any


class _SymbolicParameter:
    """Stands for a parameter of mergekit's; gives symbols for the places of numbers."""

    def __init__(self, spec: ParameterSpec) -> None:
        self._validate = spec.validate
        self._is_numeric = spec.value_type in _NUMERIC
        self.name, self.scope, self.required = spec.name, spec.scope, spec.required
        self.default = _Default(spec.default)

    def validate(self, value: Any) -> Any:
        if isinstance(value, _Default):
            return self._validate(value.value)
        if isinstance(value, float) != self._is_numeric:
            raise UnclearError
        if not self._is_numeric:
            return self._validate(value)
        way = value.way if isinstance(value, _Symbol) else _Number(int(value))
        return _Symbol.of(_Validated(self._validate, way))

"""The search space: ordered parameters, and the way from genotype to point and back.

A genotype is a vector in [0, 1]^n that only optimizers see; a point is the same in
natural units, parameter name -> value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Value = float | int | bool | str
Point = Mapping[str, Any]  # parameter name -> value

WIDEST_STEP = 1 / 6  # of a coordinate: three steps from the middle reach its ends


@dataclass(frozen=True)
class Real:
    """A number in [low, high].

    Args:
        name: Unique in its space.
        low: Smallest value.
        high: Largest value, > low.
        log: Whether equal ratios are equally far apart; needs low > 0.
        initial: Where a search starts; the middle of the coordinate by default.
        scale: How far a value moves around a good one, > 0, in its own units; None where nobody
            knows. The range is what is allowed, this is where a search looks.
    """

    name: str
    low: float
    high: float
    log: bool = False
    initial: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if not (self.low < self.high and math.isfinite(self.high - self.low)):
            raise ValueError(
                f"{self.name}: range [{self.low}, {self.high}] is not finite and rising"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"{self.name}: a log range needs low > 0, got {self.low}")
        if self.initial is not None and not self.low <= self.initial <= self.high:
            raise ValueError(
                f"{self.name}: initial {self.initial} is outside [{self.low}, {self.high}]"
            )
        if self.scale is not None and (self.log or not 0 < self.scale < math.inf):
            raise ValueError(
                f"{self.name}: a scale is above 0, and of a range without log, got {self.scale}"
            )

    @property
    def step(self) -> float:
        """The first step of a search, as a share of the coordinate: its scale, at most a sixth."""
        share = math.inf if self.scale is None else self.scale / (self.high - self.low)
        return min(share, WIDEST_STEP)

    def holds(self, value: Value) -> bool:
        """Whether a value is one of its own."""
        return not isinstance(value, str) and self.low <= value <= self.high

    def decode(self, coordinate: float) -> float:
        """Coordinate in [0, 1] -> value."""
        if self.log:
            span = math.log(self.high) - math.log(self.low)
            value = math.exp(math.log(self.low) + coordinate * span)
        else:
            value = self.low + coordinate * (self.high - self.low)
        return min(max(value, self.low), self.high)

    def encode(self, value: float) -> float:
        """Value -> coordinate in [0, 1]; values outside the range go to its edge."""
        value = min(max(float(value), self.low), self.high)
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return min(max((math.log(value) - low) / (high - low), 0.0), 1.0)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Integer:
    """A whole number in [low, high], each as likely as the others."""

    name: str
    low: int
    high: int
    initial: int | None = None

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"{self.name}: integer range [{self.low}, {self.high}] is not rising")
        if self.initial is not None and not self.low <= self.initial <= self.high:
            raise ValueError(
                f"{self.name}: initial {self.initial} is outside [{self.low}, {self.high}]"
            )

    @property
    def n_values(self) -> int:
        """How many values it can take."""
        return self.high - self.low + 1

    def holds(self, value: Value) -> bool:
        """Whether a value is one of its own."""
        return not isinstance(value, str) and value == int(value) and self.low <= value <= self.high

    def decode(self, coordinate: float) -> int:
        """Coordinate in [0, 1] -> value."""
        return self.low + min(int(coordinate * self.n_values), self.n_values - 1)

    def encode(self, value: int) -> float:
        """Value -> the middle of its stretch of [0, 1]."""
        index = min(max(int(value), self.low), self.high) - self.low
        return (index + 0.5) / self.n_values


@dataclass(frozen=True)
class Choice:
    """One of several values without order."""

    name: str
    values: tuple[Value, ...]
    initial: Value | None = None

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(self.values)) != len(self.values):
            raise ValueError(
                f"{self.name}: a choice needs two or more different values, got {self.values}"
            )
        if self.initial is not None and self.initial not in self.values:
            raise ValueError(f"{self.name}: initial {self.initial!r} is not among {self.values}")

    @property
    def n_values(self) -> int:
        """How many values it can take."""
        return len(self.values)

    def holds(self, value: Value) -> bool:
        """Whether a value is one of its own."""
        return value in self.values

    def decode(self, coordinate: float) -> Value:
        """Coordinate in [0, 1] -> value."""
        return self.values[min(int(coordinate * self.n_values), self.n_values - 1)]

    def encode(self, value: Value) -> float:
        """Value -> the middle of its stretch of [0, 1]."""
        return (self.values.index(value) + 0.5) / self.n_values


Parameter = Real | Integer | Choice


@dataclass(frozen=True)
class Space:
    """The ordered parameters of a search.

    Args:
        parameters: At least one, names unique.
    """

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.parameters]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"parameter names stand twice in one space: {', '.join(twice)}")

    def __len__(self) -> int:
        return len(self.parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    @property
    def n_dims(self) -> int:
        """Length of a genotype."""
        return len(self.parameters)

    def decode(self, genotype: NDArray[np.float64]) -> dict[str, Value]:
        """Genotype of shape (n_dims,) -> point, in the order of the parameters."""
        return {p.name: p.decode(float(u)) for p, u in zip(self.parameters, genotype, strict=True)}

    def encode(self, point: Mapping[str, Any]) -> NDArray[np.float64]:
        """Point -> genotype of shape (n_dims,); other names in ``point`` are an error."""
        unknown = sorted(set(point) - {p.name for p in self.parameters})
        if unknown:
            raise ValueError(f"point has parameters that the space lacks: {', '.join(unknown)}")
        return np.array([p.encode(point[p.name]) for p in self.parameters], dtype=np.float64)

    @property
    def initial(self) -> NDArray[np.float64]:
        """Where a search starts that knows nothing: each initial value, else mid-coordinate."""
        return np.array(
            [0.5 if p.initial is None else p.encode(p.initial) for p in self.parameters],  # type: ignore[arg-type]  # each kind encodes its own values
            dtype=np.float64,
        )

    def starting_at(self, genotype: NDArray[np.float64]) -> Space:
        """The same space with its start at a genotype."""
        return Space(
            tuple(
                replace(p, initial=p.decode(float(u)))  # type: ignore[arg-type]  # own kind's value
                for p, u in zip(self.parameters, genotype, strict=True)
            )
        )

    @property
    def steps(self) -> NDArray[np.float64]:
        """First step of a search along each coordinate, as a share of it; shape (n_dims,)."""
        return np.array(
            [p.step if isinstance(p, Real) else WIDEST_STEP for p in self.parameters],
            dtype=np.float64,
        )

    @property
    def levels(self) -> tuple[int | None, ...]:
        """Per coordinate the number of values it can take, None where continuous."""
        return tuple(None if isinstance(p, Real) else p.n_values for p in self.parameters)

    @property
    def is_ordered(self) -> tuple[bool, ...]:
        """Per coordinate whether near coordinates mean near values."""
        return tuple(not isinstance(p, Choice) for p in self.parameters)


def to_data(space: Space) -> list[dict[str, Any]]:
    """The parameters as JSON holds them; :func:`from_data` reads them back."""
    return [{"kind": type(p).__name__.lower(), **asdict(p)} for p in space]


def from_data(data: Sequence[Mapping[str, Any]]) -> Space:
    """The space that :func:`to_data` wrote."""
    return Space(tuple(_parameter_of(**entry) for entry in data))


def _parameter_of(kind: str, **fields: Any) -> Parameter:
    if kind == "choice":
        return Choice(**{**fields, "values": tuple(fields["values"])})
    return Integer(**fields) if kind == "integer" else Real(**fields)

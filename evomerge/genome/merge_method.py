"""One merge method: its parameters, what it makes of a base, and what it does not tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from evomerge.foundations.errors import UnknownNameError, nearest


class Scope(str, Enum):
    """Whose value a parameter is."""

    SHARED = "shared"
    INPUT = "input"
    NON_BASE = "non_base"


class Unmoved(str, Enum):
    """What a source does whose tensor is that of the base."""

    NOTHING = "nothing"
    DIVIDES = "divides"  # its weight counts where the weights are divided by their sum
    COUNTS = "counts"


class Base(str, Enum):
    """What a method makes of ``base_model``."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Range:
    """Where a number is searched unless the genome says otherwise.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether equal ratios are equally far apart.
        may_be_negative: Whether ``allow_negative_weights`` opens [-high, high].
        scale: How far a value moves around a good one, whatever the range; None where nobody
            knows, and where ``log``.
        start: A value that is good as a rule; None for the middle.
    """

    low: float
    high: float
    log: bool = False
    may_be_negative: bool = False
    scale: float | None = None
    start: float | None = None


@dataclass(frozen=True)
class MethodParameter:
    """One parameter of a merge method.

    Attributes:
        name: mergekit's name.
        scope: Whose value it is.
        range: Where it is searched once it varies; None where only fixed values or
            choices make sense.
        searched: Whether it varies unless the genome fixes it.
        kind: What its values are: bool, int, float or text.
        is_dead: Whether mergekit accepts the parameter and ignores it.
        bounds: Smallest and largest value that means anything.
        default: What mergekit takes where a recipe gives none; told of those that are searched
            and of those that normalise.
        is_required: Whether every recipe has to give a value that nobody but the genome knows.
    """

    name: str
    scope: Scope
    range: Range | None = None
    searched: bool = False
    kind: type[bool] | type[int] | type[float] | type[str] = float
    is_dead: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)
    default: float | bool | None = None
    is_required: bool = False


@dataclass(frozen=True)
class Method:
    """One merge method.

    Attributes:
        name: mergekit's name.
        parameters: All parameters mergekit reads for it.
        base: What it makes of ``base_model``.
        min_sources: Fewest models beside the base.
        max_sources: Most models beside the base, None for any number.
        normalized_by: Parameter that, when true, cancels the common scale of the weights;
            ``"always"`` where it always cancels; None where it never does.
        is_random: Whether it draws from the merge seed.
        is_linear: Whether the uniform average and each source are points of its space.
        in_pairs: Whether more models than it takes are merged two at a time.
        normalize: Value of ``normalized_by`` where the genome gives none: mergekit-evolve's
            default for the methods it knows, mergekit's own for the others.
        keeps_equal: Whether a tensor that all models share, the base among them, comes out as
            it is whatever the parameters say; if not, it does where the weights are divided by
            their sum.
        unmoved: What a source does whose tensor is that of the base.
        packages: Those of which one registers it with mergekit; empty for mergekit's own.
    """

    name: str
    parameters: tuple[MethodParameter, ...]
    base: Base
    min_sources: int = 1
    max_sources: int | None = None
    normalized_by: str | None = None
    is_random: bool = False
    is_linear: bool = False
    in_pairs: bool = False
    normalize: bool = False
    keeps_equal: bool = True
    unmoved: Unmoved = Unmoved.COUNTS
    packages: tuple[str, ...] = ()

    @property
    def live_parameters(self) -> tuple[MethodParameter, ...]:
        """Those that it makes something of."""
        return tuple(parameter for parameter in self.parameters if not parameter.is_dead)

    def reads(self, name: str) -> bool:
        """Whether it makes anything of a parameter of that name."""
        return any(parameter.name == name for parameter in self.live_parameters)

    def parameter(self, name: str) -> MethodParameter:
        """The parameter of that name.

        Raises:
            UnknownNameError: the method has none of that name.
        """
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        known = sorted(p.name for p in self.parameters)
        listed = ", ".join(known) if known else "none"
        raise UnknownNameError(
            f"merge method {self.name} has no parameter {name!r}{nearest(name, known)} "
            f"(known: {listed})"
        )

"""Merge method -> what may vary in it, over which range, and what it does not tell.

Names, scopes and contracts are mergekit's (a contract test compares them with the installed
one); ranges are ours. A range is where a search looks unless the genome says otherwise.

Sources: TIES arXiv:2306.01708, DARE arXiv:2311.03099, DELLA arXiv:2406.11617,
Breadcrumbs arXiv:2312.06795, task arithmetic arXiv:2212.04089, SCE arXiv:2408.07990,
RAM arXiv:2601.13572, Model Stock arXiv:2403.19522.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

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
        kind: What its values are: bool, int or float.
        is_dead: Whether mergekit accepts the parameter and ignores it.
        bounds: Smallest and largest value that means anything.
        default: What mergekit takes where a recipe gives none; told of those that are searched
            and of those that normalise.
    """

    name: str
    scope: Scope
    range: Range | None = None
    searched: bool = False
    kind: type[bool] | type[int] | type[float] = float
    is_dead: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)
    default: float | bool | None = None


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


def _shared(name: str, range: Range | None = None, **facts: Any) -> MethodParameter:
    return MethodParameter(name, Scope.SHARED, range, **facts)


def _per_source(name: str, range: Range | None = None, **facts: Any) -> MethodParameter:
    return MethodParameter(name, Scope.NON_BASE, range, **facts)


# mergekit-evolve begins with a sixth; with a tenth, formulas of 6 and 24 dimensions were solved
# better by cma_es.
WEIGHT_SCALE = 0.1
_FRACTION_SCALE = 0.1
_TASK_VECTOR_WEIGHT = _per_source(
    "weight", Range(0.0, 1.5, may_be_negative=True, scale=WEIGHT_SCALE), searched=True
)
_AVERAGE_WEIGHT = Range(0.0, 1.0, may_be_negative=True, scale=WEIGHT_SCALE)
_FRACTION = Range(0.05, 1.0, scale=_FRACTION_SCALE)
_LAMBDA = _shared("lambda", Range(0.25, 2.0, scale=WEIGHT_SCALE, start=1.0))


def _task_vectors(
    name: str,
    *sparsity: MethodParameter,
    normalize: bool = False,
    is_random: bool = False,
    elects_signs: bool = True,
    normalized_by_mergekit: bool = False,
) -> Method:
    """A generalized task arithmetic: weight, what sparsifies, and the shared four.

    Where signs are elected, an entry that is 0 has none: it is left out, and so is its weight.
    """
    has_density = any(parameter.name == "density" for parameter in sparsity)
    density = () if has_density else (_per_source("density", is_dead=True),)
    return Method(
        name,
        (
            _TASK_VECTOR_WEIGHT,
            *sparsity,
            *density,
            _LAMBDA,
            _shared("normalize", kind=bool, default=normalized_by_mergekit),
            _shared("rescale", kind=bool, is_dead=not has_density),
            _shared("int8_mask", kind=bool, is_dead=True),
        ),
        Base.REQUIRED,
        normalized_by="normalize",
        is_random=is_random,
        is_linear=not has_density,
        normalize=normalize,
        unmoved=Unmoved.NOTHING if elects_signs else Unmoved.DIVIDES,
    )


def _density(low: float, high: float) -> MethodParameter:
    return _per_source(
        "density",
        Range(low, high, scale=_FRACTION_SCALE),
        searched=True,
        bounds=(0.0, 1.0),
        default=1.0,
    )


_GAMMA = _per_source("gamma", Range(0.001, 0.1, log=True), bounds=(0.0, 1.0))
_EPSILON = _per_source("epsilon", Range(0.01, 0.15), bounds=(0.0, 0.5))

_ROWS = (
    Method(
        "linear",
        (
            MethodParameter("weight", Scope.INPUT, _AVERAGE_WEIGHT, searched=True),
            _shared("normalize", kind=bool, default=True),
        ),
        Base.IGNORED,
        normalized_by="normalize",
        is_linear=True,
        normalize=True,
        keeps_equal=False,
    ),
    _task_vectors("task_arithmetic", elects_signs=False),
    _task_vectors("ties", _density(0.05, 1.0), normalize=True, normalized_by_mergekit=True),
    _task_vectors("dare_ties", _density(0.1, 0.95), normalize=True, is_random=True),
    _task_vectors("dare_linear", _density(0.1, 0.95), is_random=True, elects_signs=False),
    _task_vectors("breadcrumbs", _density(0.05, 0.95), _GAMMA, elects_signs=False),
    _task_vectors("breadcrumbs_ties", _density(0.05, 0.95), _GAMMA),
    _task_vectors(
        "della",
        _density(0.2, 0.8),
        _EPSILON,
        normalize=True,
        is_random=True,
        normalized_by_mergekit=True,
    ),
    _task_vectors("della_linear", _density(0.2, 0.8), _EPSILON, is_random=True, elects_signs=False),
    Method(
        "slerp",
        (_shared("t", Range(0.0, 1.0, scale=_FRACTION_SCALE), searched=True),),
        Base.REQUIRED,
        max_sources=1,
        in_pairs=True,
    ),
    Method(
        "nuslerp",
        (
            _per_source("weight", _AVERAGE_WEIGHT, searched=True),
            _shared("nuslerp_row_wise", kind=bool),
            _shared("nuslerp_flatten", kind=bool),
        ),
        Base.OPTIONAL,
        min_sources=2,
        max_sources=2,
        normalized_by="always",
        normalize=True,
    ),
    Method(
        "multislerp",
        (
            _per_source("weight", _AVERAGE_WEIGHT, searched=True),
            _shared("normalize_weights", kind=bool, default=True),
            _shared("eps"),
        ),
        Base.OPTIONAL,
        normalized_by="normalize_weights",
        normalize=True,
        keeps_equal=False,
    ),
    Method(
        "nearswap",
        (_shared("t", Range(1e-5, 1e-1, log=True), searched=True),),
        Base.REQUIRED,
        max_sources=1,
    ),
    Method(
        "sce",
        (
            _shared("select_topk", _FRACTION, searched=True, bounds=(0.0, 1.0), default=1.0),
            _shared("int8_mask", kind=bool, is_dead=True),
        ),
        Base.REQUIRED,
    ),
    Method(
        "ram",
        (_shared("epsilon", Range(1e-6, 1e-2, log=True), searched=True, default=1e-5),),
        Base.REQUIRED,
    ),
    Method(
        "ramplus_tl",
        (
            _shared("r", Range(0.01, 1.0, log=True), searched=True, default=0.1),
            _shared("alpha", Range(0.01, 1.0, log=True), searched=True, default=0.2),
            _shared("epsilon", Range(1e-6, 1e-2, log=True)),
        ),
        Base.REQUIRED,
    ),
    Method(
        "passthrough",
        (
            MethodParameter(
                "scale", Scope.INPUT, Range(0.5, 1.5, scale=_FRACTION_SCALE), searched=True
            ),
        ),
        Base.IGNORED,
        max_sources=1,
        keeps_equal=False,
    ),
    Method("model_stock", (_shared("filter_wise", kind=bool),), Base.REQUIRED, min_sources=2),
    Method("arcee_fusion", (), Base.REQUIRED, max_sources=1, is_random=True),
    Method(
        "karcher",
        (_shared("max_iter", Range(1, 20), kind=int), _shared("tol")),
        Base.IGNORED,
    ),
)

METHODS: Mapping[str, Method] = {method.name: method for method in _ROWS}


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        UnknownNameError: no such method, with the nearest name.
    """
    if name in METHODS:
        return METHODS[name]
    known = sorted(METHODS)
    raise UnknownNameError(
        f"unknown merge method {name!r}{nearest(name, known)} (known: {', '.join(known)})",
        fix="Run `evomerge list methods`.",
    )

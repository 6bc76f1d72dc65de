"""Merge method -> what may vary in it, over which range, and what it does not tell.

Names, scopes and contracts are mergekit's (a contract test compares them with the installed
one); ranges are ours. A range is where a search looks unless the genome says otherwise.

Sources: TIES arXiv:2306.01708, DARE arXiv:2311.03099, DELLA arXiv:2406.11617,
Breadcrumbs arXiv:2312.06795, task arithmetic arXiv:2212.04089, SCE arXiv:2408.07990,
RAM arXiv:2601.13572, Model Stock arXiv:2403.19522.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from evomerge.foundations.errors import UnknownNameError, nearest
from evomerge.genome.merge_method import Base, Method, MethodParameter, Range, Scope, Unmoved


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


class MethodTable(Mapping[str, Method]):
    """Merge methods by name: mergekit's own, and those that packages register with it.

    The latter are known in processes that have imported these packages, as to mergekit itself.

    Args:
        own: mergekit's.
    """

    def __init__(self, own: Iterable[Method]) -> None:
        self._own = {method.name: method for method in own}
        self._registered: dict[str, Method] = {}

    def register(self, method: Method) -> None:
        """Adds a method that a package has registered with mergekit."""
        self._registered[method.name] = method

    def has_parameter(self, name: str) -> bool:
        """Whether any of them has a parameter of that name."""
        return any(name == p.name for method in self.values() for p in method.parameters)

    def is_own(self, name: str) -> bool:
        """Whether it is one of mergekit's own."""
        return name in self._own

    def packages(self, names: Iterable[str]) -> tuple[str, ...]:
        """Packages without which mergekit knows not all methods of these names."""
        known = (self[name] for name in names if name in self)
        return tuple(dict.fromkeys(package for one in known for package in one.packages))

    def __getitem__(self, name: str) -> Method:
        return self._own[name] if name in self._own else self._registered[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._own, *self._registered))

    def __len__(self) -> int:
        return len(self._own) + len(self._registered)


METHODS = MethodTable(_ROWS)


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
        fix="Run `evomerge list methods`. Where a Python package of yours registers it with "
        "mergekit, name that package under genome.merge_method_packages.",
    )

"""Merge methods that Python packages register with mergekit: imported, and described as it does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from evomerge.foundations.errors import GenomeError, Problem
from evomerge.foundations.permissions import Permissions
from evomerge.genome.merge_method import Base, Method, MethodParameter, Scope
from evomerge.genome.methods import METHODS

if TYPE_CHECKING:
    from mergekit.merge_methods import MergeMethodSpec
    from mergekit.merge_methods.base import InputContract, ParameterSpec

KEY = "genome.merge_method_packages"
_KINDS = (bool, int, float, str)


def register_methods(
    packages: Sequence[str], permissions: Permissions, wanted: str | None = None
) -> None:
    """Imports packages and puts what they register with mergekit into the table of methods.

    Args:
        packages: Importable names.
        permissions: What the user allows.
        wanted: The method they are imported for; others that cannot be described are left out.

    Raises:
        GenomeError: that is not allowed; a package is not installed, cannot be imported; the
            wanted method, or every one, cannot be described, or none is registered.
    """
    if not packages:
        return
    if not permissions.code:
        listed = ", ".join(packages)
        raise GenomeError(
            f"got {listed}, whose code would run, expected permission to import it",
            where=KEY,
            fix="Add --allow-code if you trust it.",
        )
    wrong = [*filter(None, map(_not_imported, packages))]
    if wrong:
        raise GenomeError.of(wrong)
    from mergekit.merge_methods import registered_methods

    undescribed: dict[str, GenomeError] = {}
    for spec in (method.spec for method in registered_methods()):
        if spec.name not in METHODS:
            try:
                METHODS.register(_described(spec, tuple(packages)))
            except GenomeError as error:
                undescribed[spec.name] = error
    if wanted in undescribed:
        raise undescribed[wanted]
    if not any(method.packages for method in METHODS.values()):
        for why in undescribed.values():
            raise why
        raise GenomeError(
            f"{', '.join(packages)} registers no merge method with mergekit",
            where=KEY,
            fix="Have it call mergekit.merge_methods.register(METHOD): the decorator "
            "merge_method alone registers nothing.",
        )


def _not_imported(package: str) -> Problem | None:
    """Why a package cannot be imported."""
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name and f"{package}.".startswith(f"{error.name}."):
            what = f"no Python package {package} is installed here"
            return Problem(what, KEY, "Install it into the environment of evomerge.")
        return _stopped(package, error)
    except (Exception, SystemExit) as error:  # it is somebody else's code
        return _stopped(package, error)
    return None


def _stopped(package: str, error: BaseException) -> Problem:
    what = f"{package} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
    return Problem(what, KEY, "Mend the package.")


def _described(spec: MergeMethodSpec, packages: tuple[str, ...]) -> Method:
    """A row of the table as far as a method tells it; of the rest the careful answer."""
    fewest, most = _numbers(spec.contract)
    base = spec.contract.base.value
    return Method(
        spec.name,
        tuple(_parameter(spec.name, parameter) for parameter in spec.parameters),
        Base.OPTIONAL if base == "forbidden" else Base(base),  # mergekit itself refuses one
        min_sources=fewest,
        max_sources=most,
        is_random=True,
        keeps_equal=False,
        packages=packages,
    )


def _numbers(contract: InputContract) -> tuple[int, int | None]:
    """Fewest and most models beside the base; beside one that may be missing, roughly."""
    base = contract.base.value
    may_be, must_be = int(base in ("required", "optional")), int(base == "required")
    fewest = max(contract.min_inputs - may_be, contract.min_non_base or 0, 1)
    limits = [contract.max_non_base]
    limits += [None if contract.max_inputs is None else contract.max_inputs - must_be]
    return fewest, min((limit for limit in limits if limit is not None), default=None)


def _parameter(method: str, spec: ParameterSpec) -> MethodParameter:
    bounds = [*_bounds(spec.value_type)]
    kind = _kind(spec.value_type)
    if kind is None:
        raise GenomeError(
            f"{spec.name} of {method} takes {spec.value_type}, expected bool, int, float or str",
            where=KEY,
            fix="Give it a type that a recipe can hold.",
        )
    default = spec.default if isinstance(spec.default, (bool, int, float)) else None
    return MethodParameter(
        spec.name,
        Scope(spec.scope.value),
        kind=kind,
        bounds=(
            max((low for low, _ in bounds), default=-math.inf),
            min((high for _, high in bounds), default=math.inf),
        ),
        default=None if spec.required else default,
        is_required=spec.required,
    )


def _kind(annotation: Any) -> Any:
    """bool, int, float or str, from what pydantic takes for one; None where it is another."""
    if annotation in _KINDS:
        return annotation
    if get_origin(annotation) is Literal:
        return next((kind for kind in _KINDS if isinstance(get_args(annotation)[0], kind)), None)
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return next(filter(None, map(_kind, get_args(annotation))), None)
    return None


def _bounds(annotation: Any) -> Iterator[tuple[float, float]]:
    """Smallest and largest value, of every place of an annotation that sets one."""
    for part in get_args(annotation):  # pydantic's Field holds several marks
        for mark in (part, *getattr(part, "metadata", ())):
            ends = [(getattr(mark, "ge", None), getattr(mark, "gt", None), -math.inf)]
            ends += [(getattr(mark, "le", None), getattr(mark, "lt", None), math.inf)]
            low, high = (next((e for e in end if e is not None), none) for *end, none in ends)
            yield float(low), float(high)
        yield from _bounds(part)

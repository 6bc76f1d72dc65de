"""Which models go into a recipe, in which role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evomerge.genome.merge_method import Base, Method
from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName


@dataclass(frozen=True)
class Inputs:
    """The models of a recipe.

    Attributes:
        base: The recipe's ``base_model``; None where the method would read a base that the
            genome does not name.
        models: Every input in recipe order, the base included where the method reads it.
        weighted: Indices of the inputs whose per-model parameters count.
    """

    base: ModelName | None
    models: tuple[ModelName, ...]
    weighted: tuple[int, ...]


def inputs_of(models: Sequence[ModelName], base: ModelName | None, method: Method) -> Inputs:
    """Which models go into a recipe, in which role.

    A base that the method ignores stays out of the recipe: mergekit would take it for one
    more source.

    Args:
        models: As the genome lists them.
        base: The genome's base.
        method: Its merge method.
    """
    named = tuple(models)
    if method.base is Base.IGNORED:
        base = base if base in named else named[0]
        return Inputs(base, named, tuple(range(len(named))))
    if method.max_sources == 1 and len(named) == 2 and base not in named:
        base = named[0]
    if base is None and method.base is Base.REQUIRED:
        base = named[0]
    if base is None:
        return Inputs(None, named, tuple(range(len(named))))
    inputs = named if base in named else (*named, base)
    return Inputs(base, inputs, tuple(i for i, model in enumerate(inputs) if model != base))


def wrong_number(
    models: Sequence[ModelName], base: ModelName | None, method: Method
) -> Iterator[MisfitError]:
    """What to say where a method merges fewer or more models."""
    if method.in_pairs and len(models) > 2:
        return
    inputs = inputs_of(models, base, method)
    has_base = method.base is not Base.IGNORED and inputs.base is not None
    n_sources = len(inputs.models) - has_base
    most = method.max_sources
    if n_sources < method.min_sources or (most is not None and n_sources > most):
        is_exact = most == method.min_sources
        wanted = f"exactly {most}" if is_exact else f"at least {method.min_sources}"
        beside = " beside the base" if method.base is not Base.IGNORED else ""
        yield MisfitError(
            f"{method.name} merges {wanted} model(s){beside}, got {n_sources}", "models"
        )

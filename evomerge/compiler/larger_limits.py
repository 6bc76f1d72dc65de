"""Larger limits for a run that has begun: more trials, patience or time, if it stays the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from evomerge.checks.context import CheckContext
from evomerge.compiler.recorded_genome import (
    LIMITS,
    genome_digest,
    is_left_of,
    is_of,
    stored_genome,
    without_limits,
)
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import EvomergeError
from evomerge.genome.difference import differences
from evomerge.genome.load import load_genome, to_yaml
from evomerge.genome.schema import OptimizerBlock
from evomerge.genome.yaml_file import YamlFile
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.lines import Extension


@dataclass(frozen=True)
class LargerLimits:
    """The limits of a run that are others now, and nothing else of its genome.

    Attributes:
        was: Limit -> what it was when the run was last given limits; None is no limit.
        now: The same of today.
        obstacles: One line for each that keeps the run from going on with them; empty where what
            it finds is what it would have found with them from the start.
    """

    was: Mapping[str, Any]
    now: Mapping[str, Any]
    obstacles: tuple[str, ...] = ()

    def record(self, ledger: Ledger, source: YamlFile) -> str:
        """Has the ledger and the folder's genome.yml say it; what the user should know."""
        is_seen = bool(ledger.finals)
        extension = Extension(genome_digest(source.data), self.was, self.now)
        ledger.record_extension(extension, to_yaml(source))
        told = ", ".join(_told(name, self.was[name], self.now[name]) for name in extension.raised)
        seen = (
            "; its final scores were known: where they are why, holdout steers" if is_seen else ""
        )
        return f"the run goes on: {told}{seen}"


def larger_limits(ledger: Ledger, source: YamlFile, context: CheckContext) -> LargerLimits | None:
    """What a genome changes of the limits of its run; None where it changes more, or nothing.

    Args:
        ledger: Of the run.
        source: The genome of today.
        context: The same, and who proposes.
    """
    stored, now = stored_genome(ledger), source.data
    if stored is None or is_of(ledger, now) or not is_left_of(ledger, stored):
        return None
    if [*differences(without_limits(stored), without_limits(now))]:
        return None
    try:
        then = load_genome(ledger.folder.genome)[0].optimizer
    except EvomergeError:  # a genome.yml that cannot be read is told as what changed
        return None
    own = context.genome.optimizer
    was, new = ({name: getattr(one, name) for name in LIMITS} for one in (then, own))
    if ledger.extensions:  # a kill may have left a genome.yml that has those before
        was = {name: ledger.extensions[-1].now[name] for name in LIMITS}
    found = LargerLimits(was, new, tuple(_obstacles(then, was, new, context)))
    return found if found.obstacles else replace(found, obstacles=tuple(_ended(ledger, found)))


def _ended(ledger: Ledger, limits: LargerLimits) -> Iterator[str]:
    """Larger limits that add no trial, as another one ended the search."""
    raised = [name for name in LIMITS if limits.now[name] != limits.was[name]]
    if ledger.ended == "timeout" and "timeout" not in raised:
        for name in raised:
            yield (
                f"genome optimizer.{_told(name, limits.was[name], limits.now[name])}, and the "
                f"search ended by its timeout: raise optimizer.timeout ({limits.now['timeout']}) "
                "with it"
            )


def _obstacles(
    then: OptimizerBlock, was: Mapping[str, Any], now: Mapping[str, Any], context: CheckContext
) -> Iterator[str]:
    for name in LIMITS:
        line = f"genome optimizer.{_told(name, was[name], now[name])}"
        if _size(now[name]) < _size(was[name]):
            yield line
        elif name == "budget" and now[name] != was[name]:
            why = _plans_by(then, context)
            if why:
                yield f"{line}, and {why}"


def _size(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _told(name: str, was: float | None, now: float | None) -> str:
    return f"{name}: was {'absent' if was is None else was}, now {'absent' if now is None else now}"


def _plans_by(then: OptimizerBlock, context: CheckContext) -> str:
    """Why the first trials of a larger budget are others; empty where they are the same."""
    own = context.genome.optimizer
    if context.auto is not None:
        return context.auto.other
    if own.islands:
        return "islands take turns by their shares of it"
    for before, link in zip(then.links[:-1], own.links[:-1], strict=True):
        if before != link:
            return (
                f"{link.name} had {counted(before.budget or 0, 'trial')} of it, not {link.budget}"
            )
    if context.optimizer is not None and context.optimizer.plans_by_budget:
        return f"{own.links[-1].name} plans by it"
    return ""

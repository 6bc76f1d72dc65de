"""What each optimizer itself has to say of a search before it begins: ``notes`` of its class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from evomerge.checks.context import CheckContext
from evomerge.foundations.findings import Finding, note
from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.search_context import SearchContext

Chosen = tuple[str, type[Optimizer], Any]  # where it stands, its class, its settings


def in_this_space(context: CheckContext) -> Iterator[Finding]:
    """What is good to know of an optimizer in the space at hand."""
    space = context.merge_space
    if space is None:
        return
    known = SearchContext(
        experts=space.experts(), places=space.places(), has_shares=space.has_shares()
    )
    for where, kind, settings in _chosen(context):
        for one in kind.notes(space.space, known, settings):
            yield note(one.what, ".".join(filter(None, [where, one.where])), one.fix)


def untold_losses(context: CheckContext) -> Iterator[Finding]:
    """Links of a chain that score what no point of the space means, before others."""
    if not context.genome.optimizer.chain or context.auto is not None:
        return
    last = f"optimizer.chain[{len(context.genome.optimizer.chain) - 1}]"
    for where, kind, settings in _chosen(context):
        said = kind.unmeant(settings)
        if said is not None and where != last:
            what = (
                f"{said.what}, no point of the space means it: the next link begins where it "
                "ended, and is not told its scores"
            )
            yield note(what, f"{where}.{said.where}")


def _chosen(context: CheckContext) -> Iterator[Chosen]:
    """The optimizers of a genome; what is wrong with others is told at their own keys."""
    block = context.genome.optimizer
    key = "chain" if block.chain else "islands"
    for index, link in enumerate(block.links):
        if link.name not in OPTIMIZERS:
            continue
        kind = OPTIMIZERS[link.name]
        try:
            settings = kind.Settings.model_validate(link.settings)
        except ValidationError:  # settings that are wrong are told where they are read
            continue
        is_in_file = block.parts and context.auto is None
        yield f"optimizer.{key}[{index}]" if is_in_file else "optimizer", kind, settings

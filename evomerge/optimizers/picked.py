"""What `auto` picked for a search, as people and the header of its ledger are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evomerge.foundations.counted import counted
from evomerge.genome.schema import OptimizerBlock, OptimizerLink


class PickedLink(OptimizerLink):
    """One that the rule picked: it stands in no file."""


@dataclass(frozen=True)
class AutoChoice:
    """What the rule picked.

    Attributes:
        links: Optimizers that follow one another, each with its budget.
        reason: Why, in words.
        other: Who it would be where the budget was larger from the start; empty: the same.
    """

    links: tuple[PickedLink, ...]
    reason: str
    other: str = ""

    @property
    def budget(self) -> int:
        """Trials of all of them."""
        return sum(link.budget or 0 for link in self.links)

    def __str__(self) -> str:
        """One line for people."""
        picked = ", then ".join(map(_told, self.links))
        return f"optimizer auto: {picked} ({self.reason}; docs/optimizers.md has the rule)"

    def reaching(self, budget: int) -> AutoChoice:
        """The same for a search that goes on: the trials that were added are the last one's."""
        *before, last = self.links
        left = budget - sum(link.budget or 0 for link in before)
        longer = last.model_copy(update={"budget": max(left, last.budget or 0)})
        return replace(self, links=(*before, longer))

    def block(self, given: OptimizerBlock) -> OptimizerBlock:
        """The genome's block with these optimizers in it."""
        return given.model_copy(update={"chain": list(self.links), "population_size": None})

    def to_data(self) -> dict[str, Any]:
        """As the header of a ledger keeps it; :func:`chosen_in` reads it back."""
        links = [link.model_dump(exclude_none=True) for link in self.links]
        return {"links": links, "reason": self.reason}


def chosen_in(header: Mapping[str, Any]) -> AutoChoice | None:
    """What was picked when the run of a ledger began; None where its genome names an optimizer."""
    data = header.get("auto")
    if data is None:
        return None
    links = tuple(PickedLink.model_validate(link) for link in data["links"])
    return AutoChoice(links, data["reason"])


def block_in(header: Mapping[str, Any], given: OptimizerBlock) -> OptimizerBlock:
    """The block of a genome that leaves the choice open, as the run of a ledger began.

    One from before there was a rule has CMA-ES, the default of then.
    """
    picked = chosen_in(header)
    if picked is not None:
        return picked.reaching(given.budget).block(given)
    is_older = header.get("optimizer") == "cma_es"  # no other name of a stranger's is believed
    return given.model_copy(update={"name": "cma_es"}) if is_older else given


def is_auto(block: OptimizerBlock) -> bool:
    """Whether a genome leaves the choice to the rule, and it was not made yet."""
    return block.name == "auto" and not block.parts


def _told(link: OptimizerLink) -> str:
    if link.name != "gradient":
        return f"{link.name}, {counted(link.budget or 0, 'trial')}"
    epochs = counted(link.settings["epochs"], "epoch")
    return f"gradient, a weight a {link.settings['granularity']}, {epochs}"

"""The tensors of one model as a merge treats them: merged, carried over, or left out and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.foundations.counted import counted

_N_SHOWN = 3


@dataclass(frozen=True)
class TensorAccount:
    """The tensors of one model, each in one of three places.

    Attributes:
        model: As the recipe's user names it.
        key: Where it stands in the genome.
        merged: Names of those that the merge reads and computes with.
        carried_over: Names of those that it takes as they are -> why.
        left_out: Names of those that reach no merged model -> why.
        is_adapter: Whether it is a LoRA adapter of a model.
        is_by_trial: Whether a trial may leave out more, which its export says.
    """

    model: str
    key: str
    merged: frozenset[str]
    carried_over: Mapping[str, str]
    left_out: Mapping[str, str]
    is_adapter: bool = False
    is_by_trial: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """Every name, with the reason where it is not merged."""
        return {
            "model": self.model,
            "merged": sorted(self.merged),
            "is_by_trial": self.is_by_trial,
            "carried_over": dict(self.carried_over),
            "left_out": dict(self.left_out),
        }

    @property
    def numbers(self) -> tuple[str, str, str]:
        """How many are merged, carried over and left out, as people read it."""
        carried, left = (
            f"{len(one):,}" if one else "" for one in (self.carried_over, self.left_out)
        )
        return f"{len(self.merged):,}", carried, left

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is not merged, reason by reason."""
        groups = (("carried over", self.carried_over), ("left out", self.left_out))
        return tuple(
            f"{counted(len(names), 'tensor')} of {self.model} {verb} {what}: {why} ({_some(names)})"
            for what, tensors in groups
            for why, names in _by_reason(tensors).items()
            for verb in ("is" if len(names) == 1 else "are",)
        )


def _by_reason(tensors: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, why in tensors.items():
        found[why].append(name)
    return found


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _N_SHOWN else ""
    return ", ".join(names[:_N_SHOWN]) + more

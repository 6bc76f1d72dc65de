"""Where a candidate comes from: a record for programs, and its text for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum


class OriginKind(str, Enum):
    """Who had the idea."""

    MODEL = "model"  # one that goes into the merge, as it is
    BASE = "base"
    AVERAGE = "average"
    FIXED = "fixed"  # a recipe that one would have tried without a search
    MIXTURE = "mixture"  # the models side by side, to compare merges with
    SEED = "seed"  # a merge found earlier
    OPTIMIZER = "optimizer"


_BY_NAME = (OriginKind.MODEL, OriginKind.BASE, OriginKind.SEED)
_UNIFORM = (OriginKind.AVERAGE, OriginKind.MIXTURE)


@dataclass(frozen=True)
class Origin:
    """Where a candidate comes from.

    Attributes:
        kind: Who had the idea.
        name: Of the model, the fixed recipe or the file; what an average is of models that are
            not merged; what an optimizer calls its proposal. Empty where there is none.
        link: Which of the run's optimizers proposed it, from 0.
        numbers: Where it stands in that optimizer's search: ``{"epoch": 3}``.
        is_taught: Whether its weights were learned from the search documents, not only scored on
            them; of a seed whether an earlier search learned from its own.
    """

    kind: OriginKind
    name: str = ""
    link: int = 0
    numbers: Mapping[str, int] = field(default_factory=dict, hash=False)
    is_taught: bool = False

    def __str__(self) -> str:
        """For people; programs read the record."""
        if self.kind is OriginKind.OPTIMIZER:
            return ", ".join(filter(None, [self.kind.value, self.name]))
        if self.kind in _UNIFORM:
            return f"uniform {self.name or self.kind.value}"
        return f"{self.kind.value} {self.name}" if self.kind in _BY_NAME else self.name

    @property
    def short(self) -> str:
        """The same with a model by the last part of its path, the base by that name."""
        if self.kind is OriginKind.MODEL:
            return self.tail
        return self.kind.value if self.kind is OriginKind.BASE else str(self)

    @property
    def tail(self) -> str:
        """The last part of the path that its name is."""
        return self.name.rstrip("/").rpartition("/")[2]

    @property
    def is_baseline(self) -> bool:
        """Whether it was there before the search began."""
        return self.kind is not OriginKind.OPTIMIZER

    @property
    def is_unmerged(self) -> bool:
        """Whether it is a model as it is, and no merge."""
        return self.kind in (OriginKind.MODEL, OriginKind.BASE)

    @property
    def may_win(self) -> bool:
        """Whether it is what the search looks for, and not only beside it to compare with."""
        return self.kind is not OriginKind.MIXTURE

    def of_link(self, link: int, name: str) -> Origin:
        """The same, proposed by one of several optimizers, which people call by a name."""
        return replace(self, name=", ".join(filter(None, [name, self.name])), link=link)


def proposed(name: str = "", *, is_taught: bool = False, **numbers: int) -> Origin:
    """What an optimizer says of a genotype that it asks for."""
    return Origin(OriginKind.OPTIMIZER, name, numbers=numbers, is_taught=is_taught)

"""What the table of evaluators knows of every kind of task: its settings, and what it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_origin

from pydantic import ConfigDict, Field

from evomerge.genome.block import Block
from evomerge.genome.misfit import MisfitError

# The field `language` of kinds that have texts written; whoever has it, has its replies looked at.
Languages = Annotated[
    str | Annotated[list[str], Field(min_length=1)] | None,
    Field(
        description="Languages by their codes, e.g. `ja`: a reply in none of them counts for "
        "nothing, and `in_language` is the share of those that are. A word or two, a number or a "
        "formula is in any. Needs the extra `language`."
    ),
]


class TaskSettings(Block):
    """What a kind of task reads under its key: a mapping, or a text or list, its first field."""

    # No scale ends there, and what a task stands on is written as JSON, which has neither.
    model_config = ConfigDict(allow_inf_nan=False)

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        first = dict(list(cls.model_fields.items())[:1])
        takes_list = any(get_origin(field.annotation) is list for field in first.values())
        if isinstance(value, list if takes_list else str):
            return dict.fromkeys(first, value)
        if takes_list and isinstance(value, str):
            what = f"got {value!r}, expected a list, or keys and values"
            raise MisfitError(what, fix=f"Write [{', '.join(value.split())}].")
        return value


@dataclass(frozen=True)
class Measure:
    """One number per document, and what it means; a metric is the mean over documents.

    Attributes:
        name: As the genome's ``metric:`` has it.
        higher_is_better: Direction.
        low: The least it can be.
        high: The most.
        what: In a few words, for lists of kinds.
    """

    name: str
    higher_is_better: bool
    low: float = -math.inf
    high: float = math.inf
    what: str = ""

    @property
    def worst(self) -> float:
        """What a document gets that counts for nothing; may be infinite."""
        return self.low if self.higher_is_better else self.high

    @property
    def range_text(self) -> str:
        """``[0, 1]``; an end that is open to infinity with a round bracket."""
        low = "(-inf" if math.isinf(self.low) else f"[{self.low:g}"
        return f"{low}, {'inf)' if math.isinf(self.high) else f'{self.high:g}]'}"


class KindOfTask:
    """A kind of task: an evaluator of its own, or one that asks, of which one scores all.

    Attributes:
        Settings: What stands under the key that names the kind.
        reads: What it reads of the keys that tasks of all kinds may have.
        measures: What it reports; empty where the tasks say, and not the kind.
        runs_code: Whether it runs what a genome names, with ``--allow-code`` alone.
    """

    Settings: ClassVar[type[TaskSettings]] = TaskSettings
    runs_code: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({"metric", "limit", "samples"})
    measures: tuple[Measure, ...] = ()

    @classmethod
    def carry(cls, old: Path, new: Path) -> None:  # most pay for nothing
        """Has a fork find what another run has paid for by tasks of this kind.

        Args:
            old: The other's run folder; it may have nothing of this kind.
            new: The fork's.

        Raises:
            LedgerError: a file is damaged.
            LostFileError: the fork's folder cannot be written.
        """

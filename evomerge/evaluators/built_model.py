"""A built model in a folder, to be scored by other means than those of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from evomerge.genome.task_blocks import EvaluationBlock
from evomerge.nouns.evaluation import Document
from evomerge.recipe.pool import Pool

T = TypeVar("T")
Report = Callable[[float], None]  # hears the share that is done, [0, 1]
Scored = tuple[tuple[Document, ...], dict[str, float]]  # documents; "task/metric,filter" -> value


@dataclass(frozen=True)
class BuiltMixture:
    """Models that answer together.

    Attributes:
        folders: Of its members.
        pool: How they are combined.
    """

    folders: tuple[Path, ...]
    pool: Pool


@dataclass
class BuiltModel:
    """A model folder, and how the run that found it would have had it run.

    Attributes:
        folder: The model; of a mixture its first member, whose tokenizer it has.
        settings: How the run had its models run, in the dtype that it took.
        device: Where it runs.
        threads: Of the whole process from now on.
        trust_remote_code: Whether the model may bring its own code.
        mixture: Of which the folder is the first member; None: it is the model.
    """

    folder: Path
    settings: EvaluationBlock
    device: str
    threads: int
    trust_remote_code: bool = False
    mixture: BuiltMixture | None = None
    _opened: dict[Callable[[BuiltModel], Any], Any] = field(default_factory=dict)

    def opened_by(self, opener: Callable[[BuiltModel], T]) -> T:
        """What a function makes of it; the last one's is kept: memory may hold but one."""
        if opener not in self._opened:
            self._opened.clear()
            self._opened[opener] = opener(self)
        opened: T = self._opened[opener]
        return opened

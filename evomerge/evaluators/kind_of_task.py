"""What the table of evaluators knows of every kind of task: its settings, and what it reads."""

from __future__ import annotations

from typing import Any, ClassVar

from evomerge.genome.block import Block


class TaskSettings(Block):
    """What a kind of task reads under its key: a mapping, or a text that is its first field."""

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return dict.fromkeys(list(cls.model_fields)[:1], value)
        return value


class KindOfTask:
    """A kind of task: an evaluator of its own, or one that asks, of which one scores all.

    Attributes:
        Settings: What stands under the key that names the kind.
        reads: What it reads of the keys that tasks of all kinds may have.
    """

    Settings: ClassVar[type[TaskSettings]] = TaskSettings
    reads: ClassVar[frozenset[str]] = frozenset({"metric", "limit", "samples"})

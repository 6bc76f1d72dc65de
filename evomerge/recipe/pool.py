"""How the members of a mixture are combined, as its configuration says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Mean = Literal["arithmetic", "geometric"]
MEANS: tuple[Mean, ...] = get_args(Mean)
UNMERGED = "a mixture is several models side by side, and no merge of them"
MEMBERS, MEAN, TASKS = "mixture", "mean", "tasks"
ROWS_BYTES = 1 << 30  # of rows kept for geometric means; beyond it each trial runs the models


@dataclass(frozen=True)
class Pool:
    """How the members of a mixture are combined.

    Attributes:
        mean: Of their probabilities.
        weights: One per member, wherever no task has its own.
        of_tasks: Task -> its weights.
    """

    mean: Mean
    weights: tuple[float, ...]
    of_tasks: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Pool:
        """That of a mixture's configuration; its weights sum to 1 exactly."""
        own = [entry["weight"] for entry in config[MEMBERS]]
        of_tasks = {name: _summing_to_1(given) for name, given in config.get(TASKS, {}).items()}
        return cls(config.get(MEAN, MEANS[0]), _summing_to_1(own), of_tasks)


def models_mixed(config: Mapping[str, Any]) -> list[Any]:
    """The model of each member as a recipe names it, None where a merge is one; of any recipe."""
    return [entry.get("model") for entry in config.get(MEMBERS, ())]


def _summing_to_1(weights: Sequence[float]) -> tuple[float, ...]:
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)

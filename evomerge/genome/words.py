"""Names of a genome that everybody reads: its splits, its baselines."""

from __future__ import annotations

from typing import Literal, get_args

Split = Literal["tasks", "validation", "holdout"]
SPLITS: tuple[Split, ...] = ("tasks", "validation", "holdout")
FINAL_SPLITS: tuple[Split, ...] = ("validation", "holdout")  # these do not steer
Baseline = Literal["models", "base", "average", "task_arithmetic", "ties", "slerp", "mixture"]
SIDE_BY_SIDE: Baseline = "mixture"  # all models at once, and no merge
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
# Those of a genome that names none: a mixture is run by all of its models at once.
USUAL_BASELINES: tuple[Baseline, ...] = BASELINES[: BASELINES.index(SIDE_BY_SIDE)]
TRACKERS = ("page", "optuna_journal", "log")  # who hears of a run unless the genome says
N_FINALISTS = 5


def limit_key(split: Split) -> str:
    """The key that limits the tasks of a split: what steers is cut, not what judges in the end."""
    return "limit" if split == "tasks" else f"{split}_limit"

"""The one score of several tasks: its rule and its name."""

from __future__ import annotations

from evomerge.nouns.objective import Objective


def combined_name(objective: Objective) -> str:
    """What the combined score of a split is called: ``mean``, or the name of the rule."""
    is_mean = objective.name in ("weighted_sum", "per_task")
    is_unscaled = objective.name == "normalized" and not objective.anchors
    return "mean" if is_mean or is_unscaled else objective.name


def combined(objective: Objective) -> Objective:
    """The rule behind the combined score: several objectives are shown by their mean."""
    if objective.name != "per_task":
        return objective
    return Objective("weighted_sum", objective.tasks, objective.keys)

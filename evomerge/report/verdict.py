"""Whether the search found something better than there was, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evomerge.comparison import FEW, LEAST_DIFFERING, SURE, Comparison
from evomerge.report.table import Row, SplitTable
from evomerge.report.text import number

_BIAS: Mapping[str, str] = {
    "search": "These tasks made the choice, so this is biased upward; holdout tasks would tell.",
    "validation": "These tasks had a say in the choice, so this is biased upward a little; holdout "
    "tasks would tell.",
    "holdout": "Scores on the search tasks are biased upward: they made the choice.",
}
LEGEND = "± is one standard error; differences are taken document by document"


def verdict(tables: Sequence[SplitTable]) -> list[str]:
    """One sentence per objective: is the gain over the best parent larger than noise explains?

    Read from holdout if the winner was scored there, else from validation, else from the search
    tasks. The rule: a difference of more than 1.96 standard errors.
    """
    for table in reversed(tables):
        winners = [row for row in table.rows if row.is_winner]
        columns = [
            column
            for column, each in enumerate(table.columns)
            if each.is_objective and any(row.scores[column] is not None for row in winners)
        ]
        if columns:
            found = [_sentence(table, column, winners) for column in columns]
            return [*found, _BIAS[table.title]]
    return []


def _sentence(table: SplitTable, column: int, winners: Sequence[Row]) -> str:
    parent = table.parents[column]
    n_objectives = sum(each.is_objective for each in table.columns)
    task = f", {table.columns[column].name}" if n_objectives > 1 else ""
    where = f"On the {table.title} tasks{task}"
    if parent is None:
        return f"{where} no parent has a score to compare with."
    against = f"{parent}, the best parent"
    scored = [row for row in winners if row.scores[column] is not None]
    if len(scored) > 1:
        return _count(where, scored, column, against)
    gain = scored[0].gains[column]
    who = scored[0].name if n_objectives > 1 else "the winner"
    if gain is None:
        return f"{where} {who} is {against}: no merge was found to be better."
    return f"{where} {who} is {_size(gain)} {against} {_certainty(gain)}"


def _size(gain: Comparison) -> str:
    if gain.difference == 0:
        return "no better than"
    error = "" if gain.stderr is None else f" ± {number(gain.stderr)}"
    direction = "better" if gain.difference > 0 else "worse"
    return f"{number(abs(gain.difference))}{error} {direction} than"


def _certainty(gain: Comparison) -> str:
    if gain.stderr is None:
        return f"- whether that is noise cannot be told: {gain.reason}."
    if gain.n_differing < LEAST_DIFFERING:
        which = (
            "1 document differs"
            if gain.n_differing == 1
            else f"{gain.n_differing} documents differ"
        )
        return f"(n={gain.n}): only {which}, too few to tell it from noise."
    answer = (
        f"more than {SURE} standard errors, so it can be told from noise."
        if gain.is_distinguishable
        else f"not more than {SURE} standard errors, so it cannot be told from noise."
    )
    rough = "" if gain.n >= FEW else " With so few documents the rule is rough."
    return f"(n={gain.n}): {answer}{rough}"


def _count(where: str, winners: Sequence[Row], column: int, against: str) -> str:
    """How many points of a front are better and worse by more than noise explains."""
    gains = [gain for row in winners if (gain := row.gains[column]) is not None]
    sure = [gain for gain in gains if gain.is_distinguishable]
    n_better = sum(gain.difference > 0 for gain in sure)
    return (
        f"{where}, of {len(winners)} points of the front {n_better} score higher and "
        f"{len(sure) - n_better} lower than {against}, by more than {SURE} standard errors; "
        "noise alone puts one in twenty so far out."
    )

"""What a final table holds: columns, rows, and who won each objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.nouns.comparison import Comparison
from evomerge.nouns.objective import Score

WINNER = "winner"  # where there is one objective


@dataclass(frozen=True)
class Contest:
    """Who won an objective, and against whom.

    Attributes:
        winner: ``winner``, or which point of the front.
        baseline: The best baseline; None where none has a score.
        gain: What the winner has over it; None where it is a baseline itself.
        untold: Other baselines that the documents cannot tell from the winner; where a baseline
            has won, those with the very same score.
        better: Other baselines that the documents show to be better than the winner.
    """

    winner: str
    baseline: str | None
    gain: Comparison | None
    untold: tuple[str, ...] = ()
    better: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """What one column of a final table holds.

    Attributes:
        name: The task, or what the combined score is called.
        metric: The metric of the task, a minus before it where it was turned so that higher is
            better; empty for the combined score.
        is_objective: Whether this is what the search wants to be high, or the whole of it.
    """

    name: str
    metric: str = ""
    is_objective: bool = True


@dataclass(frozen=True)
class Row:
    """One model on one split.

    Attributes:
        name: ``winner``, or which baseline it is.
        trial_id: Its trial.
        is_winner: Whether the search found it.
        scores: One per column; None where it has none.
        gains: One per column: what it has over the best parent there (the base counts as one);
            None for that parent itself, and where one of the two has no score.
    """

    name: str
    trial_id: int
    is_winner: bool
    scores: tuple[Score | None, ...]
    gains: tuple[Comparison | None, ...]


@dataclass(frozen=True)
class SplitTable:
    """The final table of one split.

    Attributes:
        title: ``search``, ``validation`` or ``holdout``.
        columns: The combined score first, then the tasks.
        rows: Winners first.
        parents: The best parent in each column, which ``gains`` are measured from; None where
            no parent has a score.
        contests: The winner against the best baseline in each column that is an objective; empty
            where other tables hold them.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    parents: tuple[str | None, ...]
    contests: tuple[Contest | None, ...] = ()

    def best_in(self, column: int) -> float | None:
        """The highest score of a column, None where there is none."""
        return max((score.value for score in self.scores(column)), default=None)

    def scores(self, column: int) -> list[Score]:
        """The scores of a column that are there."""
        return [score for row in self.rows if (score := row.scores[column]) is not None]


def side_by_side(tables: Sequence[SplitTable]) -> SplitTable:
    """The first column of every split, the combined score, in one table."""
    columns = tuple(
        Column(
            table.title,
            "" if len(table.columns) > 1 else table.columns[0].name,
            table.columns[0].is_objective,
        )
        for table in tables
    )
    rows = []
    for position, row in enumerate(tables[0].rows):
        scores = tuple(table.rows[position].scores[0] for table in tables)
        gains = tuple(table.rows[position].gains[0] for table in tables)
        rows.append(Row(row.name, row.trial_id, row.is_winner, scores, gains))
    return SplitTable("result", columns, tuple(rows), tuple(table.parents[0] for table in tables))

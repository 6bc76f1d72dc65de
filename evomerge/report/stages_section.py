"""The stages of a run one below the other: what each began with, and what it found."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.foundations.counted import counted
from evomerge.nouns.score_text import score_text
from evomerge.nouns.section import Section
from evomerge.report.split_table import SplitTable, side_by_side
from evomerge.report.trial_table import final_tables
from evomerge.run.recorded_run import RecordedRun, earlier_stages

Cells = tuple[str, ...]


def stages_section(run: RecordedRun) -> Section | None:
    """The winner and the best model of each stage so far; nothing of a run that is no later one."""
    earlier = earlier_stages(run)
    if not earlier:
        return None
    stages = {one.ledger.folder.path.name: one for one in (*earlier, run)}
    tables = {
        name: side_by_side(found) for name, one in stages.items() if (found := final_tables(one))
    }
    titles = tuple(dict.fromkeys(c.name for table in tables.values() for c in table.columns))
    rows = [row for name, table in tables.items() for row in _rows(name, table, titles)]
    n_trials = {name: counted(len(one.leaderboard.trials), "trial") for name, one in stages.items()}
    return Section(
        "stages",
        "stages",
        ("stage", "model", *titles),
        tuple(rows),
        (", ".join(f"{name}: {told}" for name, told in n_trials.items()),),
        {"stages": [dict(zip(("stage", "model", *titles), row, strict=True)) for row in rows]},
    )


def _rows(name: str, table: SplitTable, titles: Cells) -> Iterator[Cells]:
    """The winner, and the best model that the stage began with."""
    for row in table.rows:
        if row.is_winner or row.name == table.parents[0]:
            scores = dict(zip((column.name for column in table.columns), row.scores, strict=True))
            found = (scores.get(title) for title in titles)
            yield (name, row.name, *("" if one is None else score_text(one) for one in found))

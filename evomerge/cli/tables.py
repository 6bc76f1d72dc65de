"""Tables as people see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evomerge.objective import Score
from evomerge.report.table import Row, SplitTable, side_by_side
from evomerge.report.text import score_text

Cell = str | Sequence[str]  # several: one line each
_NAME_WIDTH = 30
_HEAD_WIDTH = 24
_GAP = 2
_NOT_SCORED = "not scored"


def plain_table(rows: Sequence[Mapping[str, Cell]]) -> None:
    """Prints rows under their keys; columns that are empty throughout are left out."""
    table = empty_table()
    columns = [key for key in rows[0] if any(row[key] for row in rows)]
    for index, column in enumerate(columns):
        has_lists = any(not isinstance(row[column], str) for row in rows)
        style = "bold" if index == 0 else None
        table.add_column(column, no_wrap=index == 0 or has_lists, style=style)
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    Console().print(table)


def _text(cell: Cell) -> Text:
    """One line per entry of a list."""
    return Text(cell if isinstance(cell, str) else "\n".join(cell))


def draw_final(
    console: Console, tables: Sequence[SplitTable], *, every_split: bool = False
) -> None:
    """Prints the combined scores of all splits side by side, then those of the tasks.

    Args:
        console: Where to.
        tables: One per split.
        every_split: Tasks of every split rather than of the last one.
    """
    if not tables:
        return
    has_result = len(tables) > 1
    if has_result:
        _draw(console, "result", side_by_side(tables))
    for table in tables if every_split else tables[-1:]:
        is_told = has_result and len(table.columns) == 1
        if not is_told:
            _draw(console, f"{table.title} tasks", table, start=int(has_result))


def _draw(console: Console, title: str, table: SplitTable, start: int = 0) -> None:
    """Prints the columns of a table from ``start`` in as many pieces as the width asks for."""
    for piece, columns in enumerate(_pieces(table, console.width, start)):
        console.print(Text(f"\n{title}" if piece == 0 else f"\n{title}, continued", style="bold"))
        console.print(_drawn(table, columns))


def _pieces(table: SplitTable, width: int, start: int) -> Iterator[range]:
    """Column indices from ``start`` that fit beside the names, at least one at a time."""
    names = max(len(_shortened(row.name)) for row in table.rows)
    used = names
    for column in range(start, len(table.columns)):
        needed = _GAP + _width(table, column)
        if used + needed > width and column > start:
            yield range(start, column)
            start, used = column, names
        used += needed
    yield range(start, len(table.columns))


def _width(table: SplitTable, column: int) -> int:
    cells = [_score_text(row.scores[column]) for row in table.rows]
    return max(map(len, (*cells, *_head(table, column).split("\n"))))


def _drawn(table: SplitTable, columns: range) -> Table:
    drawn = empty_table()
    drawn.add_column("")
    for column in columns:
        drawn.add_column(_head(table, column), justify="right", no_wrap=True)
    for row in table.rows:
        drawn.add_row(
            Text(_shortened(row.name)),
            *_cells(table, row, columns),
            style="bold" if row.is_winner else None,
        )
    return drawn


def _cells(table: SplitTable, row: Row, columns: range) -> Iterator[Text]:
    for column in columns:
        score = row.scores[column]
        is_top = score is not None and score.value == table.best_in(column)
        style = "dim" if score is None else "green" if is_top else ""
        yield Text(_score_text(score), style=style)


def _score_text(score: Score | None) -> str:
    return _NOT_SCORED if score is None else score_text(score)


def _head(table: SplitTable, column: int) -> str:
    sizes = sorted({score.n for score in table.scores(column)})
    lines = [_shortened(table.columns[column].name, _HEAD_WIDTH)]
    if any(each.metric for each in table.columns):
        lines.append(_shortened(table.columns[column].metric, _HEAD_WIDTH))
    if sizes:
        lines.append(f"n = {sizes[0]}" + (f"-{sizes[-1]}" if len(sizes) > 1 else ""))
    return "\n".join(lines)


def _shortened(name: str, width: int = _NAME_WIDTH) -> str:
    """A long name without its middle: both ends tell models apart."""
    if len(name) <= width:
        return name
    half = (width - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def empty_table() -> Table:
    """A table in the style of all of them."""
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )

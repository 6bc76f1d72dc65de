"""Tables as people see them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evomerge.cli.plain_text import plain
from evomerge.nouns.score_text import gain_text, score_text, with_error
from evomerge.report.split_table import Row, SplitTable, side_by_side
from evomerge.report.summary import remarks
from evomerge.report.trial_table import final_tables
from evomerge.report.verdict import LEGEND
from evomerge.run.recorded_run import RecordedRun

Cell = str | Sequence[str]  # several: one line each
_NAME_WIDTH = 30
_LEAST_WIDTH = 12  # of a model behind the trial that it is
_EQUALS = " = "
_HEAD_WIDTH = 24
_GAP = 2
_NOT_SCORED = "not scored"
_IS_PARENT = "best parent"


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
    return plain(cell if isinstance(cell, str) else "\n".join(cell))


@dataclass(frozen=True)
class CellColumn:
    """A column as text: its head, one line or several, and one cell per row."""

    head: str
    cells: tuple[Text, ...]

    @property
    def width(self) -> int:
        """Its widest line."""
        return max(map(len, (*(cell.plain for cell in self.cells), *self.head.split("\n"))))


def draw_final(console: Console, run: RecordedRun, *, every_split: bool = False) -> None:
    """Prints what was found beside what was there, and whether the gain is more than noise.

    Args:
        console: Where to.
        run: What was searched.
        every_split: Tasks of every split rather than of the last one.
    """
    tables = final_tables(run)
    if not tables:
        return
    has_result = len(tables) > 1
    if has_result:
        _draw(console, "result", side_by_side(tables))
    for table in tables if every_split else tables[-1:]:
        is_told = has_result and len(table.columns) == 1
        if not is_told:
            _draw(console, f"{table.title} tasks", table, start=int(has_result))
    console.print(plain(f"\n{LEGEND}", style="dim"))
    for sentence in remarks(run, tables):
        console.print(plain(sentence))


def _draw(console: Console, title: str, table: SplitTable, start: int = 0) -> None:
    """Prints the scores from column ``start`` on, then what the objectives gained."""
    columns = range(start, len(table.columns))
    names = [plain(_label(row.name)) for row in table.rows]
    winners = [row.is_winner for row in table.rows]
    scores = [_scores(table, column, columns) for column in columns]
    draw_columns(console, title, names, winners, scores)
    gained = [c for c in columns if table.columns[c].is_objective and table.parents[c] is not None]
    if gained:
        against = "difference to the best parent"
        draw_columns(
            console, against, names, winners, [_gains(table, column, gained) for column in gained]
        )


def draw_columns(
    console: Console,
    title: str,
    names: Sequence[Text],
    is_bold: Sequence[bool],
    columns: Sequence[CellColumn],
) -> None:
    """Prints columns beside names, in as many pieces as the width asks for."""
    for piece, shown in enumerate(_pieces(names, columns, console.width)):
        console.print(plain(f"\n{title}" if piece == 0 else f"\n{title}, continued", style="bold"))
        drawn = empty_table()
        drawn.add_column("")
        for column in shown:
            drawn.add_column(plain(column.head), justify="right", no_wrap=True)
        for row, name in enumerate(names):
            style = "bold" if is_bold[row] else None
            drawn.add_row(name, *(column.cells[row] for column in shown), style=style)
        console.print(drawn)


def _pieces(
    names: Sequence[Text], columns: Sequence[CellColumn], width: int
) -> Iterator[Sequence[CellColumn]]:
    """The columns that fit beside the names, at least one at a time."""
    start, room = 0, width - max(len(name.plain) for name in names)
    used = 0
    for index, column in enumerate(columns):
        needed = _GAP + column.width
        if used + needed > room and index > start:
            yield columns[start:index]
            start, used = index, 0
        used += needed
    yield columns[start:]


def _scores(table: SplitTable, column: int, columns: Sequence[int]) -> CellColumn:
    best, sizes = table.best_in(column), {score.n for score in table.scores(column)}
    shown = with_error if len(sizes) == 1 else score_text

    def cell(row: Row) -> Text:
        score = row.scores[column]
        if score is None:
            return plain(_NOT_SCORED, style="dim")
        return plain(shown(score), style="green" if score.value == best else "")

    return CellColumn(_head(table, column, columns, [], sizes), tuple(map(cell, table.rows)))


def _gains(table: SplitTable, column: int, columns: Sequence[int]) -> CellColumn:
    gains = [gain for row in table.rows if (gain := row.gains[column]) is not None]
    parent = shortened(f"to {table.parents[column]}", _HEAD_WIDTH)

    def cell(row: Row) -> Text:
        gain = row.gains[column]
        if gain is None:
            return plain(_NOT_SCORED if row.scores[column] is None else _IS_PARENT, style="dim")
        is_gain = gain.is_distinguishable and gain.difference > 0
        return plain(gain_text(gain), style="green" if is_gain else "")

    sizes = {gain.n for gain in gains if gain.stderr is not None}
    return CellColumn(_head(table, column, columns, [parent], sizes), tuple(map(cell, table.rows)))


def _head(
    table: SplitTable,
    column: int,
    columns: Sequence[int],
    beside: Sequence[str],
    sizes: Collection[int],
) -> str:
    """Name, metric where one of the columns drawn has one, what stands beside it, one n of all."""
    lines = [shortened(table.columns[column].name, _HEAD_WIDTH)]
    if any(table.columns[each].metric for each in columns):
        lines.append(shortened(table.columns[column].metric, _HEAD_WIDTH))
    lines += beside
    lines += [f"n={size}" for size in sizes] if len(sizes) == 1 else []
    return "\n".join(lines)


def _label(name: str) -> str:
    """A row's name; of ``winner (trial 3) = model`` the trial is kept and the model shortened."""
    trial, equals, model = name.partition(_EQUALS)
    room = max(_NAME_WIDTH - len(trial) - len(equals), _LEAST_WIDTH)
    return f"{trial}{equals}{shortened(model, room)}" if equals else shortened(name)


def shortened(name: str, width: int = _NAME_WIDTH) -> str:
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

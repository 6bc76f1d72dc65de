"""Sections of the report in a terminal: each a table and sentences."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from evomerge.cli.drawn import empty_table
from evomerge.cli.plain_text import plain
from evomerge.nouns.section import FAILED, Section


def draw_section(console: Console, section: Section) -> None:
    """Prints a section; columns that are empty throughout are left out."""
    shown = [i for i, name in enumerate(section.head) if any(row[i] for row in section.rows)]
    table = empty_table()
    for index in shown:
        table.add_column(plain(section.head[index]), justify="right")
    for row in section.rows:
        table.add_row(*(_cell(row[index]) for index in shown))
    console.print(plain(f"\n{section.title}", "bold"))
    console.print(table)
    for note in section.notes:
        console.print(plain(note), soft_wrap=True)


def _cell(text: str) -> Text:
    return plain(text, style="red" if text == FAILED else "")

"""Writes docs/modules.md: every module with the first line of what it says of itself.

Run it to write the page anew; with ``--check`` it exits 1 if the page would change.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from generated_page import write_or_check

PAGE = Path(__file__).with_name("modules.md")
PACKAGE = Path(__file__).parents[1] / "evomerge"
TITLE = "# Every module in one line"
ABOUT = """A module imports from its own room and from those that stand before it here.
[CONTRIBUTING.md](../CONTRIBUTING.md) says what to write where. This page is generated, by
`make docs`."""


def rooms() -> list[str]:
    """Their order, as CONTRIBUTING.md has it."""
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = page.partition("| room |")[2].partition("\n\n")[0]
    return [line.split("`")[1].rstrip("/") for line in table.splitlines() if line.startswith("| `")]


def first_line(file: Path) -> str:
    """What a module says of itself."""
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(said.partition("\n\n")[0].split()).replace("|", "\\|")


def lines(folder: Path) -> Iterator[str]:
    """A row for each module of a folder, folders behind their files."""
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            name = file.relative_to(PACKAGE).with_suffix("").as_posix()
            yield f"| [`{name}`](../evomerge/{name}.py) | {first_line(file)} |"
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        name = inner.relative_to(PACKAGE).as_posix()
        about = first_line(inner / "__init__.py")
        yield f"| **[`{name}/`](../evomerge/{name}/__init__.py)** | {about} |"
        yield from lines(inner)


def page(_: str) -> str:
    """The whole page."""
    parts = [TITLE, ABOUT]
    for room in rooms():
        folder = PACKAGE / room
        about = first_line(folder / "__init__.py")
        parts.append(
            "\n".join([f"## {room}", "", about, "", "| module | |", "|---|---|", *lines(folder)])
        )
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    write_or_check(PAGE, page)

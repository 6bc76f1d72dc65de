"""How far something long is: a bar on a terminal, else lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evomerge.cli.written import say

Watch = Callable[[str, float], None]  # hears what is done, and how far it is in [0, 1]


@contextmanager
def watching() -> Iterator[Watch]:
    """A bar where there is a terminal, else lines."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(30),
        TaskProgressColumn(),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("", total=1.0)

        def watch(what: str, share: float) -> None:
            progress.update(bar, description=what, completed=share)

        yield watch


def lines() -> Watch:
    """A line for each thing that begins, and for each quarter of it that is done."""
    told: tuple[str, int] = ("", 0)

    def watch(what: str, share: float) -> None:
        nonlocal told
        now = (what, int(4 * share))
        if what != told[0]:
            say(what)
        elif told[1] < now[1] < 4:
            say(f"{what}: {25 * now[1]} %")
        told = now

    return watch

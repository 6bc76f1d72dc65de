"""A page whose tables are made by a script, so that they cannot drift from the code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def between(text: str, begin: str, end: str, made: str) -> str:
    """The text with something else between two markers; stops where one is missing."""
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"the markers {begin.strip()} and {end} are missing")
    return f"{before}{begin}{made}\n{end}{after}"


def write_or_check(page: Path, remake: Callable[[str], str]) -> None:
    """Writes a page anew; with ``--check`` exits 1 if it would change."""
    text = page.read_text(encoding="utf-8")
    new = remake(text)
    if "--check" in sys.argv:
        raise SystemExit(0 if new == text else f"{page.name} is stale; run this script")
    page.write_text(new, encoding="utf-8")

"""The package's modules as syntax trees, each parsed once for all tests that read code."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "evomerge"


@cache
def tree_of(file: Path) -> ast.Module:
    """Of one file."""
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def trees() -> dict[Path, ast.Module]:
    """Of the whole package, by file."""
    return {file: tree_of(file) for file in sorted(PACKAGE.rglob("*.py"))}

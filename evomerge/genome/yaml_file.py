"""A YAML file as data, with the line of every key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from evomerge.foundations.errors import Problem
from evomerge.genome.misfit import KeyPath

MAX_DEPTH = 30  # of what stands in it
MAX_INTEGER = 2**63 - 1
OVERRIDE = "--set"  # where a key stands that no file holds


@dataclass(frozen=True)
class YamlFile:
    """A YAML file as data.

    Attributes:
        name: The file, as messages name it.
        data: Mappings, lists, scalars.
        lines: Key path -> line number from 1; 0: an override has set what stands there.
        lent: Key path of what an anchor names -> the length of the longest path above both it
            and a place that uses it.
        is_evolve: Whether it is a file of mergekit-evolve's form.
        ignored: Keys that stood there and mean nothing.
        in_space: Keys of ``genome`` that stand under ``genome.space`` in the file.
        stage: Where in the file a stage stands whose content this is; empty: it is all of it.
        shared: Keys at the top of the file that the stage has from there.
    """

    name: str
    data: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    lent: Mapping[KeyPath, int] = field(default_factory=dict)
    is_evolve: bool = False
    ignored: tuple[Problem, ...] = ()
    in_space: frozenset[str] = frozenset()
    stage: KeyPath = ()
    shared: frozenset[str] = frozenset()

    def is_helper(self, path: KeyPath) -> bool:
        """Whether what stands under a key is used elsewhere too, by alias or merge key."""
        path = self._in_file(path)
        n = len(path)
        return any(lent[:n] == path and common < n for lent, common in self.lent.items())

    def where(self, path: KeyPath) -> str:
        """``FILE:LINE: key.path`` of a key, or of the nearest one above it that exists."""
        if path[:1] == ("genome",) and path[1:2] and path[1] in self.in_space:
            path = ("genome", "space", *path[1:])
        path = self._in_file(path)
        above = (path[:n] for n in range(len(path), -1, -1) if path[:n] in self.lines)
        place = self._place(next(above, None))
        return f"{place}: {dotted(path)}" if path else place

    def has(self, path: KeyPath) -> bool:
        """Whether there is such a key."""
        return self._in_file(path) in self.lines

    def _in_file(self, path: KeyPath) -> KeyPath:
        """Where a key of this content stands in the file."""
        is_shared = not self.stage or path[:1] == () or path[0] in self.shared
        return path if is_shared else (*self.stage, *path)

    @cached_property
    def _by_text(self) -> dict[str, KeyPath]:
        """Made once: a genome may have as many problems as keys."""
        return {dotted(path): path for path in self.lines}

    def locate(self, problem: Problem) -> Problem:
        """A problem that names a key path, with the file and line of that key."""
        where = text = self._in_file_text(self._under_space(problem.where))
        while text and text not in self._by_text:
            text = text[: max(text.rfind("."), text.rfind("["), 0)]
        place = self._place(self._by_text.get(text, ()))
        return Problem(problem.what, f"{place}: {where}", problem.fix)

    def is_located(self, where: str) -> bool:
        """Whether a place names the file, or what takes its place."""
        return where.startswith((self.name, f"{OVERRIDE}: "))

    def override(self, path: KeyPath) -> None:
        """What stands under a key is no longer the file's."""
        if path[:1] == ("genome",) and path[1:2] and path[1] in self.in_space:
            path = ("genome", "space", *path[1:])
        for key in [key for key in self.lines if key[: len(path)] == path]:
            del self.lines[key]
        self.lines[path] = 0

    def _place(self, path: KeyPath | None) -> str:
        """``FILE:LINE`` of a key that has a line, the file alone, or the override."""
        line = None if path is None else self.lines.get(path)
        if line is None:
            return self.name
        return f"{self.name}:{line}" if line else OVERRIDE

    def _in_file_text(self, where: str) -> str:
        key = re.match(r"\w+", where)
        is_own = self.stage and key and key[0] not in self.shared
        return f"{dotted(self.stage)}.{where}" if is_own else where

    def _under_space(self, where: str) -> str:
        key = re.match(r"genome\.(\w+)", where)
        return f"genome.space.{where[7:]}" if key and key[1] in self.in_space else where


def dotted(path: KeyPath) -> str:
    """``genome.models[1].parameters.weight``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text

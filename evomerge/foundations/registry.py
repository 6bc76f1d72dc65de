"""Name -> class, imported only when asked for."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.abc import InspectLoader
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from evomerge.foundations.errors import Problem, UnknownNameError, nearest

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A read-only table of lazily imported targets.

    Args:
        kind: What the names are, for messages: ``"optimizer"``.
        targets: Name -> ``"package.module:attribute"``.
    """

    def __init__(self, kind: str, targets: Mapping[str, str]) -> None:
        self.kind = kind
        self._targets = dict(targets)

    def __getitem__(self, name: str) -> T:
        if name not in self._targets:
            raise UnknownNameError.of([self.missing(name)])
        module, _, attribute = self._targets[name].partition(":")
        target: Any = getattr(import_module(module), attribute)
        return target  # type: ignore[no-any-return]  # a table of text cannot carry types

    def missing(self, name: str, where: str = "") -> Problem:
        """What to say of a name that is not in the table, with the nearest one."""
        known = sorted(self._targets)
        return Problem(
            f"unknown {self.kind} {name!r}{nearest(name, known)} (known: {', '.join(known)})",
            where,
            f"Run `evomerge list {self.kind.replace(' ', '_')}s`.",
        )

    def summary(self, name: str) -> str:
        """First sentence of what the target's module says of itself; nothing is imported."""
        module = self._targets[name].partition(":")[0]
        spec = find_spec(module)
        text = (
            spec.loader.get_source(module)
            if spec and isinstance(spec.loader, InspectLoader)
            else None
        )
        docstring = ast.get_docstring(ast.parse(text or ""))
        first = " ".join((docstring or "").partition("\n\n")[0].split())
        return first.partition(". ")[0].rstrip(".")

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

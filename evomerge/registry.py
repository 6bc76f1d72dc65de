"""Name -> class, imported only when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from evomerge.errors import UnknownNameError, nearest

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
            known = sorted(self._targets)
            raise UnknownNameError(
                f"unknown {self.kind} {name!r}{nearest(name, known)} (known: {', '.join(known)})",
                fix=f"Run `evomerge list {self.kind.replace(' ', '_')}s`.",
            )
        module, _, attribute = self._targets[name].partition(":")
        target: Any = getattr(import_module(module), attribute)
        return target  # type: ignore[no-any-return]  # a table of text cannot carry types

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

"""What changed between two genomes, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile, zip_longest
from operator import eq
from typing import Any

from evomerge.genome.misfit import KeyPath
from evomerge.genome.yaml_file import dotted

_ABSENT = object()
_LONGEST = 60  # characters of a value


def differences(old: Any, new: Any, path: KeyPath = ()) -> Iterator[str]:
    """One line per key: ``optimizer.budget: was 100, now 200``."""
    if old == new and type(old) is type(new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for index, (before, after) in enumerate(zip_longest(old, new, fillvalue=_ABSENT)):
            yield from differences(before, after, (*path, index))
    else:
        before, after = ("absent" if one is _ABSENT else repr(one) for one in (old, new))
        # Long texts are shown from where they differ.
        start = max(sum(takewhile(bool, map(eq, before, after))) - _LONGEST // 2, 0)
        yield f"{dotted(path)}: was {_shown(before, start)}, now {_shown(after, start)}"


def _shown(text: str, start: int) -> str:
    end = start + _LONGEST
    head = "..." if start else ""
    return f"{head}{text[start:end]}{'...' if len(text) > end else ''}"

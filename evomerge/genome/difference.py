"""What changed between two genomes, key by key."""

from __future__ import annotations

from collections.abc import Iterator
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
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, (*path, index))
    else:
        yield f"{dotted(path)}: was {_shown(old)}, now {_shown(new)}"


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

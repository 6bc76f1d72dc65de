"""Writes the tables of docs/optimizers.md from the optimizers, so that they cannot drift.

Run it to write the page anew; with ``--check`` it exits 1 if the page would change.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generated_page import between, write_or_check
from genome_tables import default, type_name
from pydantic_core import PydanticUndefined

from evomerge.optimizers import OPTIMIZERS
from evomerge.optimizers.base import Optimizer
from evomerge.optimizers.chain import Chain
from evomerge.optimizers.islands import Islands

PAGE = Path(__file__).with_name("optimizers.md")


def overview() -> Iterator[str]:
    """One row per optimizer."""
    heads = ("a generation, at 20 dimensions", "choices", "several objectives", "takes migrants")
    yield f"| name | what it is | {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|"
    for name in OPTIMIZERS:
        kind = OPTIMIZERS[name]
        cells = (
            f"`{name}`",
            OPTIMIZERS.summary(name),
            str(kind.default_population_size(20)),
            "" if kind.continuous_only else "yes",
            "yes" if kind.multi_objective else "",
            "yes" if kind.takes_migrants else "",
        )
        yield f"| {' | '.join(cells)} |"


def overlaps() -> Iterator[str]:
    """What each gives while trials are out; chains and islands are made of the others."""
    yield "| name | while others are out |"
    yield "|---|---|"
    kinds = {f"`{name}`": OPTIMIZERS[name] for name in OPTIMIZERS}
    for name, kind in {**kinds, "a chain": Chain, "islands": Islands}.items():
        yield f"| {name} | {kind.with_others_out} |"


def settings() -> Iterator[str]:
    """A table per optimizer that has settings of its own."""
    for name in OPTIMIZERS:
        kind = OPTIMIZERS[name]
        if kind.Settings.model_fields:
            yield from (f"### `{name}`", "", *_settings(kind), "")


def _settings(kind: type[Optimizer]) -> Iterator[str]:
    meanings = attributes(kind.Settings)
    if set(meanings) != set(kind.Settings.model_fields):
        raise SystemExit(f"{kind.Settings.__name__}: its docstring and its fields differ")
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in kind.Settings.model_fields.items():
        is_open = field.default is PydanticUndefined and field.default_factory is None
        given = "**required**" if is_open else _short(default(field))
        kinds = type_name(field.annotation) if field.annotation else ""
        yield f"| `{name}` | {kinds} | {given} | {meanings[name]} |"


def _short(text: str) -> str:
    """A default as people would write it."""
    number = text.strip("`")
    return f"`{float(number):.4g}`" if re.fullmatch(r"-?\d+\.\d{5,}", number) else text


def attributes(cls: type[Any]) -> dict[str, str]:
    """Name -> meaning, from the ``Attributes:`` part of a docstring."""
    _, _, part = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", part, re.MULTILINE)
    return {name: " ".join(text.split()).replace("|", "\\|") for name, text in found}


def remade(text: str) -> str:
    """The page with what stands between its markers made anew."""
    parts = {"overview": overview(), "overlaps": overlaps(), "settings": settings()}
    for name, lines in parts.items():
        text = between(text, f"<!-- {name} -->\n", f"<!-- end {name} -->", "\n".join(lines))
    return text


if __name__ == "__main__":
    write_or_check(PAGE, remade)

"""best.yml, read back; the file may be a stranger's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, with_config
from typing_extensions import NotRequired, TypedDict

from evomerge.foundations.errors import LedgerError
from evomerge.genome.source import read_yaml
from evomerge.run.ledger.shape import RecipeConfig
from evomerge.run.ledger.strict_values import (
    STRICT,
    Count,
    Device,
    Module,
    Name,
    Seed,
    Threads,
    Value,
    checked,
)


@with_config(STRICT)
class _Score(TypedDict):
    score: float
    stderr: float | None
    n: Count


@with_config(STRICT)
class _Metric(TypedDict):
    value: float
    stderr: float | None
    n: Count


@with_config(STRICT)
class _Best(TypedDict):
    evomerge_best: Literal[1]
    trial: Count
    origin: Name
    taught: NotRequired[bool]
    objective: dict[Name, _Score]
    search: dict[Name, _Metric]
    validation: NotRequired[dict[Name, _Metric]]
    holdout: NotRequired[dict[Name, _Metric]]
    point: dict[Name, Value]
    merge_seed: Seed
    threads: Threads
    device: Device
    versions: dict[Name, Name]
    method_packages: NotRequired[dict[Module, Name]]
    genome: Name
    recipe: RecipeConfig


_BEST: TypeAdapter[Any] = TypeAdapter(_Best)


def read_best(path: Path) -> dict[str, Any]:
    """The content of a best.yml.

    Raises:
        GenomeError: the file cannot be read or is not YAML.
        LedgerError: it is no best.yml.
    """
    content = read_yaml(path).data
    if not isinstance(content, dict) or "evomerge_best" not in content:
        raise _not_best(path, "not a best.yml of evomerge")
    try:
        return checked(_BEST, content)
    except ValueError as error:
        raise _not_best(path, str(error)) from error


def _not_best(path: Path, what: str) -> LedgerError:
    return LedgerError(what, where=str(path), fix="Name a run folder or the best.yml in it.")

"""What a line of a ledger must look like; the file may be a stranger's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    with_config,
)
from typing_extensions import NotRequired, TypedDict

from evomerge.genome.words import Baseline
from evomerge.nouns.space import from_data
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.strict_values import (
    STRICT,
    Count,
    Device,
    Digest,
    Finite,
    Measured,
    Module,
    Name,
    Positive,
    Prose,
    Seed,
    Split,
    Threads,
    Value,
    checked,
    shallow,
)

_MOST_NUMBERS = 999_999  # nor as many particles, iterations or epochs


def _a_recipe(config: dict[str, Any]) -> dict[str, Any]:
    Recipe(config).check()
    return config


RecipeConfig = Annotated[
    dict[Name, Any], Field(min_length=1), AfterValidator(shallow), AfterValidator(_a_recipe)
]


@with_config(STRICT)
class _Metric(TypedDict):
    task: Name
    metric: Name
    filter: Name
    value: Measured
    stderr: Measured | None
    n: Count
    higher_is_better: bool


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Sample(TypedDict):
    task: Name
    doc_id: Count
    prompt: Prose
    answer: Prose
    target: NotRequired[Prose]


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Tally(TypedDict):
    task: Name
    n_generated: Count
    n_cut: Count
    n_empty: Count
    guess: Annotated[float, Field(ge=0, le=1)] | None


@with_config(STRICT)
class _Outcome(TypedDict):
    state: Literal["complete", "failed"]
    metrics: list[_Metric]
    failure: Prose
    seconds: dict[Name, Finite]
    batch_divisor: Positive
    samples: NotRequired[list[_Sample]]
    tallies: NotRequired[list[_Tally]]


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Origin(TypedDict):
    kind: Literal["model", "base", "average", "fixed", "mixture", "seed", "optimizer"]
    name: NotRequired[Name]
    link: NotRequired[Annotated[int, Field(ge=0, le=_MOST_NUMBERS)]]
    numbers: NotRequired[dict[Name, Annotated[int, Field(ge=0, le=_MOST_NUMBERS)]]]
    is_taught: NotRequired[bool]


@with_config(STRICT)
class _Trial(_Outcome):
    id: Count
    origin: _Origin
    digest: Digest
    recipe: RecipeConfig
    genotype: list[Annotated[float, Field(ge=0, le=1)]] | None
    point: dict[Name, Value]
    idle: NotRequired[Annotated[Finite, Field(ge=0)]]
    elapsed: NotRequired[Annotated[Finite, Field(ge=0)]]


@with_config(STRICT)
class _Final(_Outcome):
    id: Count
    split: Split


@with_config(STRICT)
class _Known(_Outcome):
    split: Split
    digest: Digest


@with_config(STRICT)
class _Turn(TypedDict):
    ids: Annotated[list[Count], Field(min_length=1)]


@with_config(STRICT)
class _Ended(TypedDict):
    kind: Literal["ended"]
    reason: Literal["timeout"]


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Limits(TypedDict):
    budget: Positive
    patience: Positive | None
    timeout: Annotated[Finite, Field(gt=0)] | None


@with_config(STRICT)
class _Extension(TypedDict):
    genome_digest: Name
    was: _Limits
    now: _Limits


class _Bounded(TypedDict):
    name: Name


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Real(_Bounded):
    kind: Literal["real"]
    low: Finite
    high: Finite
    log: bool
    initial: Finite | None
    scale: NotRequired[Finite | None]


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Integer(_Bounded):
    kind: Literal["integer"]
    low: int
    high: int
    initial: int | None


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Choice(_Bounded):
    kind: Literal["choice"]
    values: list[Value]
    initial: Value | None


@with_config(ConfigDict(strict=True, extra="forbid"))
class _AutoLink(TypedDict):
    """Nothing but what the rule itself may pick: a stranger's ledger names no server to ask."""

    name: Literal["gradient", "gp", "cma_es", "nsga2"]
    budget: Positive
    population_size: NotRequired[Positive]
    epochs: NotRequired[Positive]
    granularity: NotRequired[Literal["space", "tensor"]]
    learning_rate: NotRequired[float]


@with_config(STRICT)
class _Auto(TypedDict):
    links: Annotated[list[_AutoLink], Field(min_length=1)]
    reason: Name


@with_config(STRICT)
class _Header(TypedDict):
    kind: Literal["header"]
    evomerge: Name
    genome: Name
    genome_digest: Name
    seed: Seed
    merge_seed: Seed
    threads: Threads
    workers: NotRequired[Positive]
    device: Device
    dtype: NotRequired[Literal["float32", "bfloat16", "float16"] | None]
    machine: NotRequired[dict[Name, Name]]
    versions: dict[Name, Name]
    method_packages: NotRequired[dict[Module, Name]]
    models: dict[Name, Name]
    inside: NotRequired[dict[Name, Name]]
    tasks: dict[Split, dict[Name, Name]]
    metrics: NotRequired[dict[Split, dict[Name, Name]]]
    members: NotRequired[dict[Split, dict[Name, list[Name]]]]
    baselines: NotRequired[list[Baseline]]
    optimizer: Name
    auto: NotRequired[_Auto]
    objective: Name
    space: list[Annotated[_Real | _Integer | _Choice, Field(discriminator="kind")]]


_HEADER: TypeAdapter[Any] = TypeAdapter(_Header)
_EVENTS: Mapping[str, TypeAdapter[Any]] = {
    "trial": TypeAdapter(_Trial),
    "final": TypeAdapter(_Final),
    "known": TypeAdapter(_Known),
    "asked": TypeAdapter(_Turn),
    "told": TypeAdapter(_Turn),
    "ended": TypeAdapter(_Ended),
    "extended": TypeAdapter(_Extension),
}


def header_in(line: Mapping[str, Any]) -> dict[str, Any]:
    """The header that line 1 is.

    Raises:
        ValueError: it is none.
    """
    header = checked(_HEADER, line)
    from_data(header["space"])
    return header


def event_in(line: Mapping[str, Any]) -> dict[str, Any]:
    """The event a later line tells of, its texts fit to be shown.

    Raises:
        ValueError: it tells of none.
    """
    kind = line.get("kind")
    if not isinstance(kind, str) or kind not in _EVENTS:
        raise ValueError(f"kind {kind!r}, expected {', '.join(_EVENTS)}")
    return checked(_EVENTS[kind], line)


def models_in(header: Mapping[str, Any]) -> dict[str, str]:
    """Name of each model -> its fingerprint, those that recipes and stages were built from too."""
    return {**header.get("inside", {}), **header["models"]}  # absent in older ledgers

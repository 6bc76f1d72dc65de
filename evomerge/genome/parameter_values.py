"""What a genome says of one merge parameter: a fixed value, a range, or a choice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from evomerge.genome.block import Block, Number, Whole, fits
from evomerge.genome.misfit import MisfitError

Scalar = bool | int | float | str
_KINDS = ("value", "range", "integer", "choice")


class Setting(Block):
    """One value or one way to vary; exactly one of value, range, integer, choice."""

    filter: str | None = Field(
        None, description="Only tensors whose name holds this text; absent or `*`: all others."
    )
    value: Scalar | list[Scalar] | None = Field(
        None, description="Fixed, as in mergekit; a list is interpolated over depth."
    )
    range: tuple[Number, Number] | None = Field(None, description="`[low, high]`.")
    log: bool = Field(False, description="Search the range on a logarithmic scale.")
    integer: tuple[Whole, Whole] | None = Field(None, description="`[low, high]`, both included.")
    choice: Annotated[list[Scalar], Field(min_length=2)] | None = Field(
        None, description="Two or more values."
    )
    initial: Scalar | list[Number] | None = Field(
        None,
        description="Where the search starts; absent, at the best of parents and average. A list "
        "with a range: values over depth, one coordinate each.",
    )

    @fits(*_KINDS)
    def _one_kind(self) -> Iterator[MisfitError]:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            yield MisfitError(
                f"expected exactly one of {', '.join(_KINDS)}, got {', '.join(given) or 'none'}"
            )

    @fits("range", "integer")
    def _rising(self) -> Iterator[MisfitError]:
        for kind in ("range", "integer"):
            bounds = getattr(self, kind)
            if bounds and not (bounds[0] < bounds[1] and math.isfinite(bounds[1] - bounds[0])):
                yield MisfitError(f"{kind}: expected [low, high] with low < high, got {bounds}")

    @fits("range", "log")
    def _log_from_above_zero(self) -> Iterator[MisfitError]:
        if self.log and (self.range is None or self.range[0] <= 0):
            yield MisfitError(f"log needs a range from above 0, got range {self.range}")

    @fits("value", "choice")
    def _finite_and_once(self) -> Iterator[MisfitError]:
        values = self.value if isinstance(self.value, list) else [self.value, *(self.choice or ())]
        if any(isinstance(value, float) and not math.isfinite(value) for value in values):
            yield MisfitError(f"expected finite numbers, got {values}")
        if self.choice and len(set(self.choice)) < len(self.choice):
            yield MisfitError(f"choice: values stand twice: {self.choice}")

    @fits("initial", *_KINDS)
    def _initial_among_them(self) -> Iterator[MisfitError]:
        if self.initial is None:
            return
        bounds = self.range or self.integer
        values = self.initial if isinstance(self.initial, list) else [self.initial]
        if isinstance(self.initial, list) and (self.range is None or not values):
            yield MisfitError(f"initial {self.initial} goes with a range only")
        elif self.value is not None:
            yield MisfitError("initial stands beside a fixed value; drop one of them")
        if bounds and not all(
            isinstance(v, (int, float)) and bounds[0] <= v <= bounds[1] for v in values
        ):
            yield MisfitError(f"initial {self.initial!r} is outside {list(bounds)}")
        if self.choice and self.initial not in self.choice:
            yield MisfitError(f"initial {self.initial!r} is not among {self.choice}")

    @property
    def varies(self) -> bool:
        """Whether there is something to search."""
        return self.value is None

    @property
    def is_default(self) -> bool:
        """Whether it stands for all tensors that no other setting names."""
        return self.filter is None or self.filter == "*"


class ParameterSettings(Block):
    """The settings of one parameter, in order; the first whose filter matches counts."""

    entries: Annotated[list[Setting], Field(min_length=1)]

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            return {"entries": value}
        if isinstance(value, dict):
            return value if set(value) == {"entries"} else {"entries": [value]}
        return {"entries": [{"value": value}]}

    @fits("entries")
    def _reachable(self) -> Iterator[MisfitError]:
        for index, entry in enumerate(self.entries[:-1]):
            if entry.is_default:
                yield MisfitError(
                    f"entry {index} has no filter and hides the {len(self.entries) - index - 1} "
                    "after it; put it last"
                )

    def matching(self, tensor_name: str) -> Setting | None:
        """The setting that counts for a tensor, as mergekit finds it."""
        for entry in self.entries:
            if entry.is_default or (entry.filter or "") in tensor_name:
                return entry
        return None

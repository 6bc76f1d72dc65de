"""What a genome says of one merge parameter: a fixed value, a range, or a choice."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scalar = bool | int | float | str
STRICT = ConfigDict(extra="forbid", frozen=True)
_KINDS = ("value", "range", "integer", "choice")


class Setting(BaseModel):
    """One value or one way to vary; exactly one of value, range, integer, choice."""

    model_config = STRICT

    filter: str | None = Field(
        None, description="Only tensors whose name holds this text; absent or `*`: all others."
    )
    value: Scalar | list[Scalar] | None = Field(
        None, description="Fixed, as in mergekit; a list is interpolated over depth."
    )
    range: tuple[float, float] | None = Field(None, description="`[low, high]`.")
    log: bool = Field(False, description="Search the range on a logarithmic scale.")
    integer: tuple[int, int] | None = Field(None, description="`[low, high]`, both included.")
    choice: Annotated[list[Scalar], Field(min_length=2)] | None = Field(
        None, description="Two or more values."
    )
    initial: Scalar | None = Field(None, description="Where the search starts.")

    @model_validator(mode="after")
    def _consistent(self) -> Setting:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of {', '.join(_KINDS)}, got {', '.join(given) or 'none'}"
            )
        for kind in ("range", "integer"):
            bounds = getattr(self, kind)
            if bounds and not (all(map(math.isfinite, bounds)) and bounds[0] < bounds[1]):
                raise ValueError(f"{kind}: expected [low, high] with low < high, got {bounds}")
        if self.log and (self.range is None or self.range[0] <= 0):
            raise ValueError(f"log needs a range from above 0, got range {self.range}")
        values = self.value if isinstance(self.value, list) else [self.value, *(self.choice or ())]
        if any(isinstance(value, float) and not math.isfinite(value) for value in values):
            raise ValueError(f"expected finite numbers, got {values}")
        if self.choice and len(set(self.choice)) < len(self.choice):
            raise ValueError(f"choice: values stand twice: {self.choice}")
        self._check_initial()
        return self

    def _check_initial(self) -> None:
        if self.initial is None:
            return
        bounds = self.range or self.integer
        if self.value is not None:
            raise ValueError("initial stands beside a fixed value; drop one of them")
        if bounds and not (
            isinstance(self.initial, (int, float)) and bounds[0] <= self.initial <= bounds[1]
        ):
            raise ValueError(f"initial {self.initial!r} is outside {list(bounds)}")
        if self.choice and self.initial not in self.choice:
            raise ValueError(f"initial {self.initial!r} is not among {self.choice}")

    @property
    def varies(self) -> bool:
        """Whether there is something to search."""
        return self.value is None

    @property
    def is_default(self) -> bool:
        """Whether it stands for all tensors that no other setting names."""
        return self.filter is None or self.filter == "*"


class Settings(BaseModel):
    """The settings of one parameter, in order; the first whose filter matches counts."""

    model_config = STRICT

    entries: Annotated[list[Setting], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        if isinstance(value, Settings):
            return value
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            return {"entries": value}
        if isinstance(value, dict):
            return value if set(value) == {"entries"} else {"entries": [value]}
        return {"entries": [{"value": value}]}

    @model_validator(mode="after")
    def _reachable(self) -> Settings:
        for index, entry in enumerate(self.entries[:-1]):
            if entry.is_default:
                raise ValueError(
                    f"entry {index} has no filter and hides the {len(self.entries) - index - 1} "
                    "after it; put it last"
                )
        return self

    def matching(self, tensor_name: str) -> Setting | None:
        """The setting that counts for a tensor, as mergekit finds it."""
        for entry in self.entries:
            if entry.is_default or (entry.filter or "") in tensor_name:
                return entry
        return None

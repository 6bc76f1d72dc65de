"""The settings of the space ``layers``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from evomerge.genome.block import Block, Number, ShortForm, Whole, fits
from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName
from evomerge.genome.parameter_values import Setting
from evomerge.merge_spaces.base import SpaceSettings

EditKind = Literal["skip", "repeat", "swap", "cross over"]
_OF_ENCODING = {
    "path": {"edits", "kinds", "longest_edit", "repeats", "scales"},
    "mask": {"repeats", "scales"},
    "slices": {"slices"},
}


class LayerBound(Block):
    """One end of a range of layers: a whole number, or ``{integer: [low, high]}``."""

    value: Annotated[Whole, Field(ge=0)] | None = Field(None, description="Fixed.")
    integer: tuple[Whole, Whole] | None = Field(None, description="`[low, high]`, both included.")

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"value": value}

    @fits("value", "integer")
    def _one_of_them(self) -> Iterator[MisfitError]:
        if (self.value is None) == (self.integer is None):
            yield MisfitError("expected a whole number or {integer: [low, high]}")
        if self.integer and not 0 <= self.integer[0] < self.integer[1]:
            yield MisfitError(f"integer: expected 0 <= low < high, got {list(self.integer)}")

    @property
    def ends(self) -> tuple[int, int]:
        """Smallest and largest value."""
        return self.integer or (self.value or 0, self.value or 0)


_Bound = Annotated[LayerBound, ShortForm("integer")]


class SliceSettings(Block):
    """Consecutive layers of one model."""

    model: ModelName = Field(description="One of `genome.models`.")
    layer_range: tuple[_Bound, _Bound] = Field(
        description="First layer, and the layer after the last."
    )
    scale: Annotated[Setting, ShortForm("number")] | None = Field(
        None, description="What its layers add to the stream is multiplied by: a value or a range."
    )

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        scale = value.get("scale") if isinstance(value, dict) else None
        return (
            value
            if scale is None or isinstance(scale, dict)
            else {**value, "scale": {"value": scale}}
        )

    @fits("layer_range")
    def _rising(self) -> Iterator[MisfitError]:
        start, end = self.layer_range
        if start.ends[1] >= end.ends[0]:
            yield MisfitError(
                f"may be empty: it starts at layer {start.ends[1]} at the latest and ends before "
                f"layer {end.ends[0]} at the earliest",
                "layer_range",
                fix="Let every start be below every end.",
            )

    @fits("scale")
    def _positive(self) -> Iterator[MisfitError]:
        if self.scale is None:
            return
        if self.scale.filter is not None or isinstance(self.scale.value, list):
            yield MisfitError("expected one number or one range", "scale")
            return
        given = (*(self.scale.range or ()), *(self.scale.choice or ()))
        values = given or (self.scale.value,)
        if self.scale.integer or any(
            not isinstance(v, (int, float)) or isinstance(v, bool) or v <= 0 for v in values
        ):
            yield MisfitError("expected a number above 0, or a range or choice of them", "scale")


class LayerSettings(SpaceSettings):
    """Which paths are searched."""

    encoding: Literal["path", "mask", "slices"] = Field(
        "path",
        description="`path`: a few edits of one model; `mask`: every layer in or out, `repeats` "
        "times over (Akiba et al.); `slices`: the ranges of layers under `slices`.",
    )
    edits: Annotated[Whole, Field(ge=1, le=64)] = Field(4, description="Edits of a path, at most.")
    kinds: Annotated[list[EditKind], Field(min_length=1)] = Field(
        ["skip", "repeat", "swap", "cross over"], description="Which edits there are."
    )
    longest_edit: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="Layers that one edit takes at most. Default: a quarter of them."
    )
    repeats: Annotated[Whole, Field(ge=1, le=8)] = Field(
        2, description="How often one layer may run."
    )
    scales: tuple[Number, Number] | None = Field(
        (0.5, 2.0),
        description="Bounds of the scales, around 1; null: none is searched. `path`: what an "
        "edit's layers add to the stream; `mask`: of the whole stream before a layer.",
    )
    slices: list[SliceSettings] = Field(
        default_factory=list, description="Of encoding `slices`: `{model, layer_range, scale}`."
    )

    @fits("encoding")
    def _of_the_encoding(self) -> Iterator[MisfitError]:
        known = _OF_ENCODING[self.encoding]
        for key in sorted(self.model_fields_set - known - {"encoding"}):
            owner = next((name for name, keys in _OF_ENCODING.items() if key in keys), "")
            yield MisfitError(
                f"belongs to encoding {owner}, got encoding {self.encoding}", key, fix="Remove it."
            )

    @fits("encoding", "slices")
    def _slices_there(self) -> Iterator[MisfitError]:
        if self.encoding == "slices" and not self.slices:
            yield MisfitError("is missing: encoding slices stacks them", "slices", fix="Add it.")

    @fits("scales")
    def _around_one(self) -> Iterator[MisfitError]:
        if self.scales and not (0 < self.scales[0] < self.scales[1] and self._holds_one):
            yield MisfitError(
                f"expected [low, high] with 0 < low <= 1 <= high, got {list(self.scales)}", "scales"
            )

    @property
    def _holds_one(self) -> bool:
        return self.scales is not None and self.scales[0] <= 1 <= self.scales[1]

    @fits("kinds")
    def _kinds_once(self) -> Iterator[MisfitError]:
        if len(set(self.kinds)) < len(self.kinds):
            yield MisfitError(f"kinds stand twice: {self.kinds}", "kinds")

"""The parameter space: the numbers of one merge method, as finely as the genome says.

Source: Akiba et al., Evolutionary Optimization of Model Merging Recipes (2024),
arXiv:2403.13187, section 3.1 (merging in the parameter space).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.errors import GenomeError
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.merge_method import MethodParameter, Scope, Unmoved
from evomerge.genome.misfit import MisfitError
from evomerge.genome.parameter_values import ParameterSettings
from evomerge.merge_spaces.by_tensor import per_tensor
from evomerge.merge_spaces.coordinate_places import has_shares, places_of
from evomerge.merge_spaces.coordinates import bounds, coordinate
from evomerge.merge_spaces.della import check_della
from evomerge.merge_spaces.idle import Idleness, IdleParameter, start_of
from evomerge.merge_spaces.known_points import known_point
from evomerge.merge_spaces.layout import Cell, cells, layout
from evomerge.merge_spaces.names import short_names
from evomerge.merge_spaces.read_back import point_in
from evomerge.merge_spaces.slots import (
    Coupled,
    Idle,
    Reader,
    ValueSlot,
    Variable,
    by_place,
    with_filters,
)
from evomerge.merge_spaces.slotted import SlotSpace
from evomerge.merge_spaces.table import EffectiveSettings
from evomerge.merge_spaces.unit_weights import Affine, Shares
from evomerge.nouns.space import Parameter, Space
from evomerge.recipe.plain import Recipe, rounded


class ParameterSpace(SlotSpace):
    """Parameters of one merge method per model, layer group, kind of tensor and filter."""

    name: ClassVar[str] = "parameters"
    is_beyond = False

    @classmethod
    def _unfit(cls, definition: MergeDefinition) -> Iterator[MisfitError]:
        yield from super()._unfit(definition)
        if (n_models := len(definition.models)) > 2 and definition.merge_method == "slerp":
            what = f"slerp merges two models into one, got {n_models}"
            yield MisfitError(what, "models", fix="Name two, or use space: slerp_pairs.")

    def _build(self) -> Space:
        self.slices = layout(self.definition, self.architecture)
        self.given = EffectiveSettings(self.definition, self.method, self.slices, self.architecture)
        self.inputs = self.given.inputs
        self.names = short_names(self.inputs.models)
        self._idleness = Idleness(self.method, self.inputs, self.architecture, self.given.normalize)
        self._idle: list[IdleParameter] = []
        self._parameters: list[Parameter] = []
        self.fixed: dict[str, Any] = {}
        self.slots: list[ValueSlot] = []
        for parameter in self.method.live_parameters:
            if parameter.scope is Scope.SHARED:
                self._place_shared(parameter)
            elif parameter.name == "weight":
                self._place_weights(parameter)
            else:
                self._place_per_source(parameter)
        self._slots_at = by_place(self.slots)
        self.idle = tuple(self._idle)
        is_silenced = self.method.unmoved is not Unmoved.COUNTS
        self.starts = {p.name: start_of(p) for p in self._parameters} if is_silenced else {}
        self._check()
        return Space(tuple(self._parameters))

    def beyond_models(self) -> ParameterSpace:
        """See the base class; a sign that the genome forbids stays forbidden."""
        definition = self.definition
        is_forbidden = "allow_negative_weights" in definition.model_fields_set
        points = [self.source_point(index) for index in range(len(definition.models))]
        if (is_forbidden and not definition.allow_negative_weights) or points.count(None):
            return self
        other = copy(self)
        other.is_beyond = True
        other.space = other._build()
        return other

    # What varies, and where

    def _n_controls(self, cell: Cell) -> int:
        """Control points of the depth profile; 1 without one."""
        begun = cell.setting.initial if cell.setting is not None else None
        if isinstance(begun, list):
            return len(begun) if cell.has_layers else 1
        step = self.definition.layer_granularity
        if not (self.definition.smooth and step and cell.has_layers):
            return 1
        return -(-self.architecture.n_layers // step)

    def _cells(self, settings: ParameterSettings | None) -> Iterator[tuple[int, Cell]]:
        filters = tuple(self.definition.filters or ())
        for index, slice_ in enumerate(self.slices):
            for cell in cells(slice_, settings, filters):
                yield index, cell

    def _place_shared(self, parameter: MethodParameter) -> None:
        settings = self.given.shared(parameter)
        if settings is None and not parameter.searched:
            return
        if settings is not None and not any(entry.varies for entry in settings.entries):
            self.fixed[parameter.name] = _fixed(settings)
            return
        for index, cell in self._cells(settings):
            reader = self._reader(parameter, cell, None)
            if reader is not None:
                self.slots.append(ValueSlot(parameter.name, None, index, cell.filter, reader))

    def _place_per_source(self, parameter: MethodParameter) -> None:
        for i in self.inputs.weighted:
            self._place_source(parameter, i)

    def _place_source(self, parameter: MethodParameter, i: int) -> None:
        model = self.inputs.models[i]
        settings = self.given.of_source(parameter, model)
        if settings is None and not parameter.searched:
            return
        is_fixed = settings is not None and not any(entry.varies for entry in settings.entries)
        if settings is not None and is_fixed and not self.given.is_own(parameter, model):
            self.fixed[parameter.name] = _fixed(settings)
            return
        for index, cell in self._cells(settings):
            reader = self._reader(parameter, cell, i)
            if reader is not None:
                self.slots.append(ValueSlot(parameter.name, model, index, cell.filter, reader))

    def _place_weights(self, parameter: MethodParameter) -> None:
        given = [
            self.given.of_source(parameter, self.inputs.models[i]) for i in self.inputs.weighted
        ]
        has_fixed = any(s is not None and not any(e.varies for e in s.entries) for s in given)
        if not self.given.normalize or has_fixed:
            self._place_per_source(parameter)
        elif any(settings is not None for settings in given):
            raise GenomeError(
                f"a range for weight, while {self.method.name} divides by the sum of the weights: "
                "their common scale would change nothing",
                where="genome.parameters.weight",
                fix="Leave the range out (shares that sum to 1 are searched), or set "
                "normalize: false, or fix the weight of one model.",
            )
        else:
            self._place_coupled(parameter)

    def _place_coupled(self, parameter: MethodParameter) -> None:
        for index, cell in self._cells(None):
            live = self._live(cell)
            coupled = tuple(
                self._coupled(parameter, cell, control, live[:-1])
                for control in range(self._n_controls(cell) if len(live) > 1 else 0)
            )
            self._parameters += [p for weights in coupled for p in weights.parameters]
            for i in self.inputs.weighted:
                reader: Reader = Idle(rounded(1 / len(self.inputs.weighted)))
                if coupled and i in live:
                    reader = Coupled(coupled, live.index(i))
                self.slots.append(
                    ValueSlot("weight", self.inputs.models[i], index, cell.filter, reader)
                )

    def _live(self, cell: Cell) -> list[int]:
        """The sources whose weights change something at a place; those of the others are named."""
        weighted, idle = self.inputs.weighted, self._idleness
        live = [i for i in weighted if not idle.of_source("weight", i, cell)]
        live = [] if idle.everything(cell) else live
        for i in weighted[:-1]:
            if i not in live[:-1]:
                for control in range(self._n_controls(cell)):
                    self._leave_out(self._name("share", i, cell, control), cell, i)
        return live

    def _leave_out(self, name: str, cell: Cell, source: int | None) -> None:
        """Remembers a parameter that changes nothing."""
        is_own = source is not None and not self._idleness.everything(cell)
        model = self.names[source] if is_own and source is not None else ""
        self._idle.append(IdleParameter(name, cell.label, model))

    def _coupled(
        self, parameter: MethodParameter, cell: Cell, control: int, sources: Sequence[int]
    ) -> Shares | Affine:
        low, high = bounds(parameter, self.definition, is_beyond=self.is_beyond)
        if low < 0:
            names = tuple(self._name("weight", i, cell, control) for i in sources)
            return Affine(names, low, high)
        return Shares(tuple(self._name("share", i, cell, control) for i in sources))

    def _reader(self, parameter: MethodParameter, cell: Cell, source: int | None) -> Reader:
        if cell.setting is None and not parameter.searched:
            return None
        if cell.setting is not None and not cell.setting.varies:
            return cell.setting.value
        within = bounds(parameter, self.definition, is_beyond=self.is_beyond)
        n_weighted, made = len(self.inputs.weighted), []
        for control in range(self._n_controls(cell)):
            name = self._name(parameter.name, source, cell, control)
            made.append(coordinate(parameter, name, cell.setting, within, n_weighted, control))
        if self._idleness.everything(cell) or (
            source is not None and self._idleness.of_source(parameter.name, source, cell)
        ):
            for one in made:
                self._leave_out(one.name, cell, source)
            return Idle(start_of(made[0]))
        self._parameters += made
        return Variable(tuple(one.name for one in made))

    def _name(self, parameter: str, source: int | None, cell: Cell, control: int) -> str:
        n = self._n_controls(cell)
        parts = [
            "" if source is None else self.names[source],
            cell.label,
            f"depth {control / (n - 1):.3g}" if n > 1 else "",
        ]
        inside = ", ".join(part for part in parts if part)
        return f"{parameter}[{inside}]" if inside else parameter

    def _check(self) -> None:
        if not self._parameters and not self.idle:
            method = self.method
            varying = sorted(p.name for p in method.parameters if p.range or method.packages)
            open_ = (
                f"Open one of {', '.join(varying)} under parameters, or let `evomerge init --from` "
                "open the numbers of a recipe"
                if varying
                else ("Merge with mergekit-yaml, or take another method")
            )
            raise GenomeError(
                f"nothing varies: {self.method.name} has no parameter left to search",
                where="genome.merge_method",
                fix=f"{open_}.",
            )
        if self.method.name.startswith("della"):
            check_della(self._parameters, self.slots, self.fixed)

    # What others ask of it

    def point_of(self, recipe: Recipe) -> dict[str, Any] | None:
        """See the base class; of several layouts a recipe may be written in, the space's own."""
        return point_in(self, recipe)

    def places(self) -> NDArray[np.intp] | None:
        """See the base class."""
        return places_of(self)

    def has_shares(self) -> bool:
        """See the base class."""
        return has_shares(self)

    def by_tensor(self) -> ParameterSpace:
        """See the base class."""
        finer = type(self)(per_tensor(self.definition), self.architecture, self.out_dtype)
        return finer.beyond_models() if self.is_beyond else finer

    def learnable(self) -> ParameterSpace:
        """See the base class."""
        return self

    # Points that are known beforehand

    def source_point(self, index: int) -> dict[str, Any] | None:
        """One weight 1 and the others 0; for two models a ``t`` of 0 or 1."""
        model = self.definition.models[index].model
        if self.method.name == "slerp":
            return self._t_point(0.0 if model == self.inputs.base else 1.0)
        if (
            self.method.is_linear
            and model == self.inputs.base
            and len(self.inputs.weighted) < len(self.inputs.models)
        ):
            return self.base_point()
        weights = [float(self.inputs.models[i] == model) for i in self.inputs.weighted]
        return self._weights_point(weights)

    def average_point(self) -> dict[str, Any] | None:
        """Equal weights that sum to 1, the base aside."""
        if len(self.inputs.weighted) != len(self.definition.models):
            return None
        return self._weights_point([1 / len(self.inputs.weighted)] * len(self.inputs.weighted))

    def base_point(self) -> dict[str, Any] | None:
        """All weights 0, where the base is no source."""
        base = self.definition.base_model
        if self.method.name == "slerp" and base == self.inputs.base:
            return self._t_point(0.0)
        if (
            self.given.normalize
            or self.inputs.base != base
            or (len(self.inputs.weighted) == len(self.inputs.models))
        ):
            return None
        return self._weights_point([0.0] * len(self.inputs.weighted))

    def _t_point(self, t: float) -> dict[str, Any] | None:
        return known_point(self._parameters, self.slots, {}, {"t": t})

    def _weights_point(self, weights: list[float]) -> dict[str, Any] | None:
        """The point with the same weights everywhere, None where it is no point of the space."""
        only_weights = all(slot.parameter == "weight" for slot in self.slots)
        plain = set(self.fixed) <= {self.method.normalized_by}
        if not (self.method.is_linear and only_weights and plain):
            return None
        by_model = {
            self.inputs.models[i]: w for i, w in zip(self.inputs.weighted, weights, strict=True)
        }
        return known_point(self._parameters, self.slots, by_model, {})

    def uniform_point(self, method: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """See the base class."""
        fixed = {name: values.get(name) for name in self.fixed}
        if method != self.method.name or fixed != self.fixed:
            return None
        weights = {self.inputs.models[i]: values.get("weight", 0.0) for i in self.inputs.weighted}
        return known_point(self._parameters, self.slots, weights, values)


def _fixed(settings: ParameterSettings) -> Any:
    return with_filters([(entry.filter, entry.value) for entry in settings.entries])

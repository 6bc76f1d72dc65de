"""The parameter space: the numbers of one merge method, as finely as the genome says.

Source: Akiba et al., Evolutionary Optimization of Model Merging Recipes (2024),
arXiv:2403.13187, section 3.1 (merging in the parameter space).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any

from evomerge.foundations.errors import GenomeError
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.methods import MethodParameter, Scope, Unmoved
from evomerge.genome.model_names import ModelName
from evomerge.genome.parameter_values import Settings
from evomerge.merge_spaces.base import MergeSpace, Point
from evomerge.merge_spaces.coordinates import bounds, coordinate
from evomerge.merge_spaces.della import check_della
from evomerge.merge_spaces.idle import Idleness, IdleParameter, start_of
from evomerge.merge_spaces.known_points import known_point
from evomerge.merge_spaces.layout import Cell, cells, layout
from evomerge.merge_spaces.names import short_names
from evomerge.merge_spaces.slots import (
    Coupled,
    Idle,
    Reader,
    Slot,
    Variable,
    by_place,
    read,
    with_filters,
    with_rest,
)
from evomerge.merge_spaces.table import EffectiveSettings
from evomerge.merge_spaces.unit_weights import Affine, Shares
from evomerge.nouns.space import Parameter, Space
from evomerge.recipe.plain import Recipe, rounded


class ParameterSpace(MergeSpace):
    """Parameters of one merge method per model, layer group, kind of tensor and filter."""

    summary = "the parameters of one merge method, as finely as the genome says"
    is_beyond = False

    @classmethod
    def serves(cls, definition: MergeDefinition) -> bool:
        """Every genome but those that choose pairs or sum adapters."""
        in_pairs = definition.merge_method == "slerp" and len(definition.models) > 2
        return definition.adapters == "delta" and not in_pairs

    def _build(self) -> Space:
        self.slices = layout(self.definition, self.architecture)
        self.settings = EffectiveSettings(
            self.definition, self.method, self.slices, self.architecture
        )
        self.inputs = self.settings.inputs
        self.names = short_names(self.inputs.models)
        self._idleness = Idleness(
            self.method, self.inputs, self.architecture, self.settings.normalize
        )
        self._idle: list[IdleParameter] = []
        self._parameters: list[Parameter] = []
        self._fixed: dict[str, Any] = {}
        self.slots: list[Slot] = []
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

    def with_slots(self, slots: list[Slot]) -> ParameterSpace:
        """The same, its recipes written from other slots."""
        other = copy(self)
        other.slots, other._slots_at = slots, by_place(slots)
        return other

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

    def _cells(self, settings: Settings | None) -> Iterator[tuple[int, Cell]]:
        filters = tuple(self.definition.filters or ())
        for index, slice_ in enumerate(self.slices):
            for cell in cells(slice_, settings, filters):
                yield index, cell

    def _place_shared(self, parameter: MethodParameter) -> None:
        settings = self.settings.shared(parameter)
        if settings is None and not parameter.searched:
            return
        if settings is not None and not any(entry.varies for entry in settings.entries):
            self._fixed[parameter.name] = _fixed(settings)
            return
        for index, cell in self._cells(settings):
            reader = self._reader(parameter, cell, None)
            if reader is not None:
                self.slots.append(Slot(parameter.name, None, index, cell.filter, reader))

    def _place_per_source(self, parameter: MethodParameter) -> None:
        for i in self.inputs.weighted:
            self._place_source(parameter, i)

    def _place_source(self, parameter: MethodParameter, i: int) -> None:
        model = self.inputs.models[i]
        settings = self.settings.of_source(parameter, model)
        if settings is None and not parameter.searched:
            return
        is_fixed = settings is not None and not any(entry.varies for entry in settings.entries)
        if settings is not None and is_fixed and not self.settings.is_own(parameter, model):
            self._fixed[parameter.name] = _fixed(settings)
            return
        for index, cell in self._cells(settings):
            reader = self._reader(parameter, cell, i)
            if reader is not None:
                self.slots.append(Slot(parameter.name, model, index, cell.filter, reader))

    def _place_weights(self, parameter: MethodParameter) -> None:
        given = [
            self.settings.of_source(parameter, self.inputs.models[i]) for i in self.inputs.weighted
        ]
        has_fixed = any(s is not None and not any(e.varies for e in s.entries) for s in given)
        if not self.settings.normalize or has_fixed:
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
                self.slots.append(Slot("weight", self.inputs.models[i], index, cell.filter, reader))

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
            varying = sorted(p.name for p in self.method.parameters if p.range is not None)
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
            check_della(self._parameters, self.slots, self._fixed)

    # What a point means

    def recipe(self, point: Point) -> Recipe:
        """What a point means: ``models:`` for one slice, ``slices:`` for several."""
        config: dict[str, Any] = {"merge_method": self.method.name}
        shared = dict(self._fixed)
        if len(self.slices) > 1:
            config["slices"] = [self._slice(i, point) for i in range(len(self.slices))]
        else:
            config["models"] = [self._input(model, 0, point) for model in self.inputs.models]
            shared.update(self._values(None, 0, point))
        if shared:
            config["parameters"] = shared
        return Recipe({**config, **self.frame(self.inputs.base)})

    def _slice(self, index: int, point: Point) -> dict[str, Any]:
        layers = [self.slices[index].start, self.slices[index].end]
        sources = []
        for model in self.inputs.models:
            source = self._input(model, index, point)
            sources.append({"model": source.pop("model"), "layer_range": layers, **source})
        shared = self._values(None, index, point)
        return {"sources": sources, **({"parameters": shared} if shared else {})}

    def _input(self, model: ModelName, index: int, point: Point) -> dict[str, Any]:
        values = self._values(model, index, point)
        entry: dict[str, Any] = {"model": model.in_recipe}
        return {**entry, "parameters": values} if values else entry

    def _values(self, model: ModelName | None, index: int, point: Point) -> dict[str, Any]:
        found: dict[str, list[tuple[str | None, Any]]] = {}
        for slot, value in read(self._slots_at.get((model, index), ()), point, self.starts):
            found.setdefault(slot.parameter, []).append((slot.filter, value))
        if self.architecture.has_buffers:  # equal in all models: any value, but mergekit wants one
            found = {name: with_rest(v, 1 / len(self.inputs.weighted)) for name, v in found.items()}
        return {name: with_filters(values) for name, values in found.items()}

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
            self.settings.normalize
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
        plain = set(self._fixed) <= {self.method.normalized_by}
        if not (self.method.is_linear and only_weights and plain):
            return None
        by_model = {
            self.inputs.models[i]: w for i, w in zip(self.inputs.weighted, weights, strict=True)
        }
        return known_point(self._parameters, self.slots, by_model, {})

    def uniform_point(self, method: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """See the base class."""
        fixed = {name: values.get(name) for name in self._fixed}
        if method != self.method.name or fixed != self._fixed:
            return None
        weights = {self.inputs.models[i]: values.get("weight", 0.0) for i in self.inputs.weighted}
        return known_point(self._parameters, self.slots, weights, values)


def _fixed(settings: Settings) -> Any:
    return with_filters([(entry.filter, entry.value) for entry in settings.entries])

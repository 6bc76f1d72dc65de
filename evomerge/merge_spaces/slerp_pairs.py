"""Pairs for SLERP: which two of several models a layer group lies between, and where.

mergekit-evolve lets each model have a gene per group, takes the two largest and a softmax of
them: genes of the others are dead, and t never exceeds 0.5. Here the pair is one choice and t
one number in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, ClassVar

from evomerge.genome.merge_block import SPACE_KEYS, MergeDefinition
from evomerge.genome.misfit import MisfitError
from evomerge.genome.parameter_values import Setting
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.idle import IdleParameter, start_of
from evomerge.merge_spaces.layout import layout
from evomerge.merge_spaces.names import short_names
from evomerge.nouns.space import Choice, Parameter, Point, Real, Space
from evomerge.recipe.plain import Recipe, rounded


class SlerpPairs(MergeSpace):
    """A pair of models and a position between them per layer group."""

    name: ClassVar[str] = "slerp_pairs"
    merge_method: ClassVar[str] = "slerp"
    reads: ClassVar[frozenset[str]] = SPACE_KEYS - {"filters", "smooth"}
    writes_slices: ClassVar[bool] = True
    unlearned: ClassVar[str] = "which pair a layer group lies between is a choice"

    @classmethod
    def _unfit(cls, definition: MergeDefinition) -> Iterator[MisfitError]:
        yield from super()._unfit(definition)
        n_models = len(definition.models)
        if n_models < 3:
            what = f"space slerp_pairs chooses among three models or more, got {n_models}"
            yield MisfitError(what, "models", fix="Name more, or use space: parameters.")
        if definition.granularity not in (None, "model"):
            yield MisfitError(
                f"slerp over {n_models} models chooses one pair per layer group",
                "granularity",
                fix="Remove it and use layer_granularity, or merge two models.",
            )
        settings = definition.parameters.get("t")
        entries = settings.entries if settings else []
        if len(entries) > 1 or any(e.range is None or isinstance(e.initial, list) for e in entries):
            yield MisfitError(
                "slerp over several models searches t in one range",
                *("parameters", "t"),
                fix="Write t: {range: [low, high]}.",
            )

    def _build(self) -> Space:
        self.models = tuple(source.model for source in self.definition.models)
        names = short_names(self.models)
        self.pairs = {
            f"{names[i]} - {names[j]}": (i, j) for i, j in combinations(range(len(names)), 2)
        }
        self.slices = layout(self.definition, self.architecture)
        parameters: list[Parameter] = []
        idle: list[IdleParameter] = []
        self._start: dict[str, Any] = {}  # of what changes nothing
        for index, slice_ in enumerate(self.slices):
            own: list[Parameter] = [
                Choice(self._name("pair", index), tuple(self.pairs)),
                self._position(self._name("t", index)),
            ]
            if self.architecture.agree(self.models, slice_.tensors):
                idle += [IdleParameter(one.name, slice_.label) for one in own]
                self._start.update({one.name: start_of(one) for one in own})
            else:
                parameters += own
        self.idle = tuple(idle)
        return Space(tuple(parameters))

    def _position(self, name: str) -> Real:
        given = self.definition.parameters.get("t")
        entry = given.entries[0] if given else Setting(range=(0.0, 1.0))
        known = self.method.parameter("t").range
        scale = None if known is None or entry.log else known.scale
        low, high = entry.range or (0.0, 1.0)
        start = float(entry.initial) if isinstance(entry.initial, (int, float)) else None
        return Real(name, low, high, log=entry.log, initial=start, scale=scale)

    def _name(self, parameter: str, index: int) -> str:
        label = self.slices[index].label
        return f"{parameter}[{label}]" if label else parameter

    def recipe(self, point: Point) -> Recipe:
        """One slice per layer group, each with its own pair and base."""
        slices, point = [], {**self._start, **point}
        for index, slice_ in enumerate(self.slices):
            pair, t = self._settled(self.pairs[point[self._name("pair", index)]], index, point)
            first, second = (self.models[i].in_recipe for i in pair)
            layers = [slice_.start, slice_.end]
            slices.append(
                {
                    "sources": [
                        {"model": first, "layer_range": layers},
                        {"model": second, "layer_range": layers},
                    ],
                    "base_model": first,
                    "parameters": {"t": t},
                }
            )
        config = {"merge_method": "slerp", "slices": slices}
        return Recipe({**config, **self.frame(self.models[0])})

    def _settled(
        self, pair: tuple[int, int], index: int, point: Point
    ) -> tuple[tuple[int, int], float]:
        """Pair and position; at an end one model takes no part, and one pair stands for all."""
        t = rounded(point[self._name("t", index)])
        if t not in (0.0, 1.0):
            return pair, t
        model = pair[int(t)]
        pair = next(one for one in self.pairs.values() if model in one)
        return pair, float(pair.index(model))

    def source_point(self, index: int) -> dict[str, Any] | None:
        """The source as first of every pair at t = 0, or as last at t = 1."""
        name, (first, _) = next((name, pair) for name, pair in self.pairs.items() if index in pair)
        t = 0.0 if first == index else 1.0
        point: dict[str, Any] = {}
        for parameter in self.space:
            if isinstance(parameter, Choice):
                point[parameter.name] = name
            elif isinstance(parameter, Real) and parameter.low <= t <= parameter.high:
                point[parameter.name] = t
            else:
                return None
        return point

    def average_point(self) -> dict[str, Any] | None:
        """No spherical pair is the average of all."""
        return None

    def base_point(self) -> dict[str, Any] | None:
        """The base is no source of a pair unless it stands among the models."""
        named = [source.model for source in self.definition.models]
        base = self.definition.base_model
        return self.source_point(named.index(base)) if base in named else None

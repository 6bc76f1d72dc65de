"""Pairs for SLERP: which two of several models a layer group lies between, and where.

mergekit-evolve lets each model have a gene per group, takes the two largest and a softmax of
them: genes of the others are dead, and t never exceeds 0.5. Here the pair is one choice and t
one number in [0, 1].
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

from evomerge.foundations.errors import GenomeError, Problem
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.parameter_values import Setting, Settings
from evomerge.merge_spaces.base import MergeSpace, Point
from evomerge.merge_spaces.idle import IdleParameter, start_of
from evomerge.merge_spaces.layout import layout
from evomerge.merge_spaces.names import short_names
from evomerge.nouns.space import Choice, Parameter, Real, Space
from evomerge.recipe.plain import Recipe, rounded


class SlerpPairs(MergeSpace):
    """A pair of models and a position between them per layer group."""

    summary = "which two of several models a layer group interpolates between, and where"

    @classmethod
    def serves(cls, definition: MergeDefinition) -> bool:
        """SLERP over more than two models."""
        in_pairs = definition.merge_method == "slerp" and len(definition.models) > 2
        return definition.adapters == "delta" and in_pairs

    def _build(self) -> Space:
        self._refuse_what_slices_cannot_say()
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

    def _refuse_what_slices_cannot_say(self) -> None:
        definition = self.definition
        reasons = {
            "genome.granularity": definition.granularity
            in ("layers", "layer", "parameter", "tensor"),
            "genome.filters": bool(definition.filters),
            "genome.smooth": definition.smooth,
        }
        problems = [
            Problem(
                f"slerp over {len(definition.models)} models chooses one pair per layer group",
                where,
                "Remove it and use layer_granularity, or merge two models.",
            )
            for where, given in reasons.items()
            if given
        ]
        if problems:
            raise GenomeError.of(problems)

    def _position(self, name: str) -> Real:
        settings = self.definition.parameters.get(
            "t", Settings(entries=[Setting(range=(0.0, 1.0))])
        )
        entry = settings.entries[0]
        initial = entry.initial
        if len(settings.entries) > 1 or entry.range is None or isinstance(initial, list):
            raise GenomeError(
                "slerp over several models searches t in one range",
                where="genome.parameters.t",
                fix="Write t: {range: [low, high]}.",
            )
        start = None if initial is None else float(initial)
        known = self.method.parameter("t").range
        scale = None if known is None or entry.log else known.scale
        return Real(name, *entry.range, log=entry.log, initial=start, scale=scale)

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

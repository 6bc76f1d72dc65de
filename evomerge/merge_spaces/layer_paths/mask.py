"""Paths as a mask: the layers of all models in a row, several times over, each in or out.

Source: Akiba et al., Evolutionary optimization of model merging recipes (2024), arXiv:2403.13187:
an indicator for each of T = M * r slots, and a scale of the residual stream before a layer. A
stream that is scaled by s before a hop, RMS-normed by every layer, is one that is not scaled, to
which that hop and all after it add 1/s as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.merge_spaces.layer_paths.hop import Encoding, Hop, Path, PathModels, identity
from evomerge.merge_spaces.layer_paths.layer_settings import LayerSettings
from evomerge.nouns.space import Choice, Parameter, Point, Real

IN, OUT = "in", "out"


class Mask(Encoding):
    """See the module; where all are out, the first model runs as it is."""

    keeps_length = False

    def __init__(self, settings: LayerSettings, models: PathModels) -> None:
        super().__init__(settings, models)
        depths = models.depths
        self._slots = [
            (time, model, layer)
            for time in range(settings.repeats)
            for model, n_layers in enumerate(depths)
            for layer in range(n_layers)
        ]
        parameters: list[Parameter] = []
        for time, model, layer in self._slots:
            start = IN if (time, model) == (0, 0) else OUT
            parameters.append(Choice(self._name("run", time, model, layer), (IN, OUT), start))
            if settings.scales:
                low, high = settings.scales
                name = self._name("scale", time, model, layer)
                parameters.append(Real(name, low, high, log=True, initial=1.0))
        self.parameters = tuple(parameters)
        self.conditional = tuple(p.name for p in parameters if isinstance(p, Real))
        self.has_scales = settings.scales is not None
        self.longest = len(self._slots)

    def _name(self, what: str, time: int, model: int, layer: int) -> str:
        again = f", {time + 1}" if self.settings.repeats > 1 else ""
        return f"{what}[{self.names[model]}, {layer}{again}]"

    def path(self, point: Point) -> Path:
        """See the base class."""
        hops, stream = [], 1.0
        for slot in self._slots:
            if point[self._name("run", *slot)] == IN:
                stream *= float(point.get(self._name("scale", *slot), 1.0))
                hops.append(Hop(*slot[1:], 1 / stream))
        return tuple(hops) or identity(0, self.depths[0])

    def identity_point(self, model: int) -> Mapping[str, Any]:
        """The first run of the model's layers."""
        point: dict[str, Any] = {}
        for slot in self._slots:
            point[self._name("run", *slot)] = IN if slot[:2] == (0, model) else OUT
            if self.settings.scales:
                point[self._name("scale", *slot)] = 1.0
        return point

"""Paths as a stack of slices, as people write frankenmerges: ranges of layers, or searched ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evomerge.foundations.errors import Problem
from evomerge.genome.parameter_values import Setting
from evomerge.merge_spaces.layer_paths.hop import Encoding, Hop, Path, PathModels
from evomerge.merge_spaces.layer_paths.layer_settings import LayerSettings
from evomerge.nouns.space import Choice, Integer, Parameter, Point, Real

_BLOCK = "genome.space.slices"
_ENDS = ("start", "end")


class Stack(Encoding):
    """Slices of single models, one on the other; ends and scales vary where the genome says."""

    def __init__(self, settings: LayerSettings, models: PathModels) -> None:
        super().__init__(settings, models)
        self.parameters = tuple(self._parameters())
        bounds = [slice_.layer_range for slice_ in settings.slices]
        self.longest = sum(end.ends[1] - start.ends[0] for start, end in bounds)
        shortest = sum(end.ends[0] - start.ends[1] for start, end in bounds)
        self.keeps_length = self.longest == shortest == self.depths[0]
        self.last = frozenset({models.texts.index(settings.slices[-1].model.text)})
        scales = [one.scale for one in settings.slices if one.scale is not None]
        self.has_scales = any(scale.value != 1 for scale in scales)

    def _parameters(self) -> Iterator[Parameter]:
        for index, slice_ in enumerate(self.settings.slices):
            for which, bound in zip(_ENDS, slice_.layer_range, strict=True):
                if bound.integer:
                    yield Integer(f"{which}[{index}]", *bound.integer)
            scale = slice_.scale
            if scale is not None and scale.range:
                start = float(scale.initial) if isinstance(scale.initial, (int, float)) else None
                yield Real(f"scale[{index}]", *scale.range, log=scale.log, initial=start)
            elif scale is not None and scale.choice:
                initial: Any = scale.initial
                yield Choice(f"scale[{index}]", tuple(scale.choice), initial)

    @classmethod
    def problems(cls, settings: LayerSettings, models: PathModels) -> list[Problem]:
        """Models that the genome does not merge, and layers that they do not have."""
        found, texts, depths = [], models.texts, models.depths
        for index, slice_ in enumerate(settings.slices):
            name, where = slice_.model.text, f"{_BLOCK}[{index}]"
            if name not in texts:
                what = f"{name} is none of genome.models ({', '.join(texts)})"
                found.append(Problem(what, f"{where}.model", "Name it there, too."))
                continue
            last, n_layers = slice_.layer_range[1].ends[1], depths[texts.index(name)]
            if last > n_layers:
                what = f"ends before layer {last}, {name} has {n_layers} layers"
                found.append(Problem(what, f"{where}.layer_range", "End where the model ends."))
        return found

    def path(self, point: Point) -> Path:
        """See the base class."""
        hops: list[Hop] = []
        for index, slice_ in enumerate(self.settings.slices):
            start, end = (
                int(point.get(f"{which}[{index}]", bound.ends[0]))
                for which, bound in zip(_ENDS, slice_.layer_range, strict=True)
            )
            weight = float(point.get(f"scale[{index}]", _fixed(slice_.scale)))
            model = self.models.texts.index(slice_.model.text)
            hops += [Hop(model, layer, weight) for layer in range(start, end)]
        return tuple(hops)

    def identity_point(self, model: int) -> None:
        """A model as it is need not be among them."""


def _fixed(scale: Setting | None) -> float:
    return (
        float(scale.value) if scale is not None and isinstance(scale.value, (int, float)) else 1.0
    )

"""Paths as a few edits of one model's own path: skip, repeat, swap, cross over.

Every edit takes layers in a row, by their numbers. Where it would change nothing, leave nothing, or
run a layer too often, it is left out. What its layers add to the stream has a weight of its own;
for a skip, that of all layers behind the gap. Swap and cross over go to the next model in the list,
so that an edit of either has something to change; of three models or more, also to those after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.foundations.errors import Problem
from evomerge.merge_spaces.layer_paths.hop import Encoding, Hop, Path, PathModels, identity
from evomerge.merge_spaces.layer_paths.layer_settings import LayerSettings
from evomerge.nouns.space import Choice, Integer, Parameter, Point, Real

NONE, SKIP, REPEAT, SWAP, CROSS = "none", "skip", "repeat", "swap", "cross over"
_OF_ONE = (SKIP, REPEAT)  # edits that need no other model


class Edits(Encoding):
    """See the module; a point names the model to start from, and every edit in turn."""

    def __init__(self, settings: LayerSettings, models: PathModels) -> None:
        super().__init__(settings, models)
        names, depths = models.names, models.depths
        n_layers = max(depths)
        span = self._span(settings, depths)
        self._kinds: dict[str, tuple[str, int]] = {NONE: (NONE, 0)}
        for kind in settings.kinds:
            if kind in _OF_ONE:
                self._kinds[kind] = (kind, 0)
            elif len(names) > 1:
                steps = range(1, len(names))
                self._kinds |= {f"{kind} +{n}" if n > 1 else kind: (kind, n) for n in steps}
        parameters: list[Parameter] = []
        if len(names) > 1:
            parameters.append(Choice("start", self.names, initial=self.names[0]))
        for edit in range(settings.edits):
            parameters.append(Choice(f"kind[{edit}]", tuple(self._kinds), initial=NONE))
            if n_layers > 1:
                parameters.append(Integer(f"layer[{edit}]", 0, n_layers - 1))
            if span > 1:
                parameters.append(Integer(f"layers[{edit}]", 1, span, initial=1))
            if settings.scales:
                low, high = settings.scales
                parameters.append(Real(f"scale[{edit}]", low, high, log=True, initial=1.0))
        self.parameters = tuple(parameters)
        self.conditional = tuple(p.name for p in parameters if not p.name.startswith("kind"))
        self.has_scales = settings.scales is not None
        self.longest = self._longest(span)
        is_same = len(set(depths)) == 1 and set(settings.kinds) <= {SWAP, CROSS}
        self.keeps_length = is_same and (span == 1 or CROSS not in settings.kinds)

    def _longest(self, span: int) -> int:
        """No path has more layers: each edit adds as many as may run in its place by then."""
        depths, repeats = self.depths, self.settings.repeats
        kinds = {kind for kind, _ in self._kinds.values()}
        deeper = max(depths) - min(depths) if CROSS in kinds else 0
        crowd = 1  # how often layers of one number run by now, in all models
        longest = max(depths)
        for _ in range(self.settings.edits):
            # A repeated layer runs twice as often, one before a crossing as often once more.
            again = span * min(crowd, len(depths) * (repeats // 2)) if REPEAT in kinds else 0
            both = (span - 1) * min(crowd, repeats) + deeper if CROSS in kinds else 0
            longest += max(again, both)
            crowd = min(2 * crowd + (deeper > 0), len(depths) * repeats)
        return min(longest, repeats * sum(depths))

    @staticmethod
    def _span(settings: LayerSettings, depths: Sequence[int]) -> int:
        return settings.longest_edit or max(max(depths) // 4, 1)

    @classmethod
    def problems(cls, settings: LayerSettings, models: PathModels) -> list[Problem]:
        """Nothing to edit with, or more layers than there are."""
        found, texts, depths = [], models.texts, models.depths
        if len(texts) == 1 and not set(settings.kinds) & set(_OF_ONE):
            what = f"{' and '.join(settings.kinds)} take two models or more, got 1"
            found.append(Problem(what, "genome.space.kinds", "Add skip or repeat, or a model."))
        if settings.kinds == [REPEAT] and settings.repeats == 1:
            what = "repeat is the only edit, and every layer may run once"
            found.append(Problem(what, "genome.space.repeats", "Raise it."))
        if cls._span(settings, depths) > max(depths):
            what = f"expected at most {max(depths)}, the layers of a model, got "
            what += str(settings.longest_edit)
            found.append(Problem(what, "genome.space.longest_edit", "Lower it."))
        return found

    def path(self, point: Point) -> Path:
        """See the base class."""
        start = self.names.index(point.get("start", self.names[0]))
        path = identity(start, self.depths[start])
        for edit in range(self.settings.edits):
            kind, step = self._kinds[point[f"kind[{edit}]"]]
            first = int(point.get(f"layer[{edit}]", 0))
            after = first + int(point.get(f"layers[{edit}]", 1))
            scale = float(point.get(f"scale[{edit}]", 1.0))
            edited = self._edited(path, kind, step, (first, after), scale)
            if edited and max(Counter((h.model, h.layer) for h in edited).values()) <= (
                self.settings.repeats
            ):
                path = edited
        return path

    def identity_point(self, model: int) -> Mapping[str, Any]:
        """No edit of the model."""
        point: dict[str, Any] = {}
        for parameter in self.parameters:
            if isinstance(parameter, Integer):
                point[parameter.name] = parameter.low
            else:
                point[parameter.name] = parameter.initial
        if "start" in point:
            point["start"] = self.names[model]
        return point

    def _edited(
        self, path: Path, kind: str, step: int, layers: tuple[int, int], scale: float
    ) -> Path:
        """A path with one edit; empty where nothing is left."""
        within = [i for i, hop in enumerate(path) if layers[0] <= hop.layer < layers[1]]
        if kind == NONE or (not within and kind != CROSS):
            return path
        if kind == SKIP:
            rest = (
                hop.weighted(scale) if i > within[0] else hop
                for i, hop in enumerate(path)
                if i not in within
            )
            return tuple(rest)
        if kind == REPEAT:
            again = (path[i].weighted(scale) for i in within)
            return (*path[: within[-1] + 1], *again, *path[within[-1] + 1 :])
        if kind == SWAP:
            swapped = tuple(
                self._moved(hop, self._after(hop, step), scale) or hop if i in within else hop
                for i, hop in enumerate(path)
            )
            return path if _run_alike(swapped, path) else swapped
        return self._crossed(path, step, layers, scale)

    def _after(self, hop: Hop, step: int) -> int:
        """The model so many places after that of a hop."""
        return (hop.model + step) % len(self.depths)

    def _moved(self, hop: Hop, model: int, scale: float) -> Hop | None:
        """The layer of that number in another model; None where it has none."""
        if hop.layer >= self.depths[model]:
            return None
        return Hop(model, hop.layer, hop.weight * scale)

    def _crossed(self, path: Path, step: int, layers: tuple[int, int], scale: float) -> Path:
        """Another model from a layer on; of an edit of n layers, n - 1 before it run in both."""
        first, n_layers = layers[0], layers[1] - layers[0]
        cut = next((i for i, hop in enumerate(path) if hop.layer >= first), None)
        if cut is None:
            return ()
        model = self._after(path[cut], step)
        head, overlap = path[:cut], range(first - n_layers + 1, first)
        before = (hop for hop in head if hop.layer in overlap)
        moved = [self._moved(hop, model, scale) for hop in (*before, *path[cut:])]
        tail = [hop for hop in moved if hop is not None]
        if not tail:
            return ()
        last = max(hop.layer for hop in tail)
        own = self.depths[path[-1].model]
        deeper = range(own, self.depths[model]) if last == own - 1 else ()
        return (*head, *tail, *(Hop(model, layer, scale) for layer in deeper))


def _run_alike(one: Path, other: Path) -> bool:
    """Whether two paths run the same layers."""
    return [(h.model, h.layer) for h in one] == [(h.model, h.layer) for h in other]

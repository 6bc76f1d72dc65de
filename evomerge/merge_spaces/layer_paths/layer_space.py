"""The data-flow space: which layer of which model runs next, how often, and how much it adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from evomerge.foundations.errors import GenomeError, Problem
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.misfit import MisfitError
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.layer_paths.edits import Edits
from evomerge.merge_spaces.layer_paths.fold import ADDS, obstacle
from evomerge.merge_spaces.layer_paths.hop import Encoding, Path, PathModels, slices_of
from evomerge.merge_spaces.layer_paths.layer_settings import LayerSettings
from evomerge.merge_spaces.layer_paths.mask import Mask
from evomerge.merge_spaces.layer_paths.stack import Stack
from evomerge.merge_spaces.names import short_names
from evomerge.nouns.space import Point, Space
from evomerge.recipe.plain import Recipe

_ENCODINGS: Mapping[str, type[Encoding]] = {"path": Edits, "mask": Mask, "slices": Stack}
_BLOCK = "genome.space"


class LayerSpace(MergeSpace):
    """Paths over the layers of all models, each a ``passthrough`` recipe that stacks them.

    Embeddings are those of the first layer's model, final norm and head of the last one's;
    configuration and tokenizer those of the base, or of the first model where there is none.

    Source: Akiba et al. (2024), arXiv:2403.13187, data flow space.
    """

    name: ClassVar[str] = "layers"
    Settings: ClassVar[type[LayerSettings]] = LayerSettings
    merge_method: ClassVar[str] = "passthrough"
    reads: ClassVar[frozenset[str]] = frozenset()
    unlearned: ClassVar[str] = "which layer runs next is a choice"
    mixes_depths: ClassVar[bool] = True
    writes_slices: ClassVar[bool] = True
    one_vocabulary: ClassVar[str] = "models of a path have one vocabulary, whichever layers run"
    settings: LayerSettings

    @classmethod
    def misfits(cls, definition: MergeDefinition) -> Iterator[MisfitError]:
        """See the base class; a path has one model in every layer, and may have many in all."""
        yield from cls._unfit(definition)

    def _build(self) -> Space:
        models = tuple(source.model for source in self.definition.models)
        depths = tuple(self.architecture.depth_of(model) for model in models)
        self._in_recipe = [model.in_recipe for model in models]
        texts = tuple(model.text for model in models)
        kind = _ENCODINGS[self.settings.encoding]
        of_models = PathModels(tuple(short_names(models)), texts, depths)
        found = kind.problems(self.settings, of_models)
        if found:
            raise GenomeError.of(found)
        self.encoding = kind(self.settings, of_models)
        found = [*self._problems(self.encoding)]
        if found:
            raise GenomeError.of(found)
        self.conditional = self.encoding.conditional
        self.longest_path = self.encoding.longest
        if not self.encoding.keeps_length:
            self.unadapted = "a path has other layers than its base, by their number"
        self.tops = tuple(models[index] for index in sorted(self.encoding.last))
        adds = ADDS.get(self.architecture.name, ()) if self.encoding.has_scales else ()
        names = self.architecture.layer_tensors
        self.scaled_tensors = tuple(name for name in names if any(text in name for text in adds))
        return Space(self.encoding.parameters)

    def _problems(self, encoding: Encoding) -> Iterator[Problem]:
        """What models of this architecture cannot do."""
        name = self.architecture.name
        if encoding.has_scales and obstacle(name):
            key = "slices" if self.settings.encoding == "slices" else "scales"
            fix = "Set scales: null to search paths without." if key == "scales" else "Remove them."
            yield Problem(obstacle(name), f"{_BLOCK}.{key}", fix)
        if self.architecture.lists_layers and not encoding.keeps_length:
            yield Problem(
                f"the configuration of {name} lists the kind of every layer, and mergekit writes "
                f"none for another number of layers than the {self.architecture.n_layers} it has",
                _BLOCK,
                "Search paths of equal length: encoding: path with kinds: [swap, cross over] and "
                "longest_edit: 1, between models of one depth.",
            )
        if not encoding.parameters:
            yield Problem(
                "nothing varies: every slice is fixed", f"{_BLOCK}.slices", "Open a range."
            )

    def path(self, point: Point) -> Path:
        """The layers that run at a point."""
        return self.encoding.path(point)

    def recipe(self, point: Point) -> Recipe:
        """The path, stacked by ``passthrough``; weights go to what adds to the stream."""
        adds = ADDS.get(self.architecture.name, ())
        slices = slices_of(self.path(point), self._in_recipe, adds)
        base = self.definition.base_model or self.definition.models[0].model
        return Recipe({"merge_method": "passthrough", "slices": slices, **self.frame(base)})

    def source_point(self, index: int) -> dict[str, Any] | None:
        """A path that is the model's own."""
        point = self.encoding.identity_point(index)
        return None if point is None else dict(point)

    def average_point(self) -> None:
        """No path is an average."""

    def base_point(self) -> dict[str, Any] | None:
        """The base is no part of a path unless it stands among the models."""
        models = [source.model for source in self.definition.models]
        base = self.definition.base_model
        return self.source_point(models.index(base)) if base in models else None

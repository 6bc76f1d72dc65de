"""The space of Model Swarms for LoRA experts: A and B summed apart, with the same coefficients.

``s * (sum c_k B_k) (sum c_k A_k)`` is not ``s * sum c_k B_k A_k``: where weights are merged in
full (``adapters: delta``) the same coefficients mean another model.

Source: Feng et al., Model Swarms (2024), arXiv:2410.11163; coefficients of either sign that sum
to 1 are what its particles are of the first ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from evomerge.genome.merge_block import SPACE_KEYS, MergeDefinition
from evomerge.genome.misfit import MisfitError
from evomerge.genome.model_names import ModelName
from evomerge.merge_spaces.adapters_fit import unfit_for_factors
from evomerge.merge_spaces.base import MergeSpace
from evomerge.merge_spaces.names import short_names
from evomerge.merge_spaces.unit_weights import BEYOND, Affine
from evomerge.nouns.space import Point, Space
from evomerge.recipe.adapter_sum import AdapterSum, file_of
from evomerge.recipe.plain import Recipe, rounded


class AdapterFactors(MergeSpace):
    """One coefficient per adapter, for A and B alike; they sum to 1."""

    name: ClassVar[str] = "adapter_factors"
    merge_method: ClassVar[str] = "linear"
    reads: ClassVar[frozenset[str]] = SPACE_KEYS - {"layer_granularity", "filters", "smooth"}
    folds_adapters: ClassVar[bool] = False
    unlearned: ClassVar[str] = "A and B of adapters are summed apart"
    one_vocabulary: ClassVar[str] = "a sum of adapters has the tokenizer of its base"

    @classmethod
    def _unfit(cls, definition: MergeDefinition) -> Iterator[MisfitError]:
        yield from super()._unfit(definition)
        yield from unfit_for_factors(definition)

    def _build(self) -> Space:
        self.models = tuple(source.model for source in self.definition.models)
        names = tuple(f"weight[{name}]" for name in short_names(self.models))
        given = self.definition.parameters.get("weight")
        low, high = (given.entries[0].range if given else None) or BEYOND
        self._coefficients = Affine(names[:-1], low, high)
        return Space(self._coefficients.parameters)

    def adapter_sum(self, point: Point) -> AdapterSum:
        """The sum that a point means, its coefficients as a file writes them."""
        values = [float(point[name]) for name in self._coefficients.names]
        decoded = self._coefficients.decode(values)
        return AdapterSum(self.models, tuple(rounded(round(value, 9)) for value in decoded))

    def recipe(self, point: Point) -> Recipe:
        """The base with the summed adapter, as it is."""
        return self._plain(self.adapter_sum(point).model)

    def files(self, point: Point) -> Mapping[str, str]:
        """The one that says what the adapter is a sum of."""
        if not point:
            return {}
        adapter_sum = self.adapter_sum(point)
        return {file_of(adapter_sum.name): adapter_sum.text}

    def model_recipe(self, model: ModelName) -> Recipe:
        """A model as it is; an expert as a sum of itself alone, which nobody folds on disk."""
        if model in self.models:
            return self.recipe(self.source_point(self.models.index(model)))
        return self._plain(model)

    def _plain(self, model: ModelName) -> Recipe:
        """One model, with what its base has beside the weights.

        Where no base is named, mergekit asks the folded model, which has no tokenizer and loses
        ``generation_config.json``; a base may be named beside slices only.
        """
        source = {"model": model.in_recipe, "layer_range": [0, self.architecture.n_layers]}
        base = self.models[0].model_copy(update={"lora": None, "lora_revision": None})
        config = {"merge_method": "passthrough", "slices": [{"sources": [source]}]}
        return Recipe({**config, **self.frame(base)})

    def average_recipe(self) -> Recipe:
        """A and B averaged: the point of equal coefficients."""
        return self.recipe(self.average_point())

    def source_point(self, index: int) -> dict[str, Any]:
        """One coefficient 1 and the others 0."""
        return self._point([float(i == index) for i in range(len(self.models))])

    def average_point(self) -> dict[str, Any]:
        """Equal coefficients."""
        return self._point([1 / len(self.models)] * len(self.models))

    def base_point(self) -> None:
        """No sum whose coefficients sum to 1 is nothing."""

    def _point(self, weights: list[float]) -> dict[str, Any]:
        values = self._coefficients.encode(weights)
        return dict(zip(self._coefficients.names, values, strict=True))

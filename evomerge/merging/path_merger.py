"""Recipes that stack layers of single models, live without a merge: layers are there, in a row.

The live model has a shell for every place of a layer, with the place's own index, so that layers
that run twice keep keys and values apart; its parameters are those of the layer that runs there.
What mergekit would build has the same tensors, each place with a copy of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mergekit.common import set_config_value
from transformers import PreTrainedConfig

from evomerge.foundations.deadline import Deadline
from evomerge.merging.built_files import BuiltFolder
from evomerge.merging.layer_shells import LayerShells, Row
from evomerge.merging.live_model import LiveModel
from evomerge.merging.merge_failures import failures_told
from evomerge.merging.mergers import Mergers
from evomerge.merging.resident_layers import ResidentTensors, SingleModel, Wanted, module_of
from evomerge.merging.structure import Structure
from evomerge.merging.whole_model import WholeModels
from evomerge.recipe.adapter_sum import sum_in
from evomerge.recipe.plain import Recipe
from evomerge.recipe.stacked import StackedLayer, ends_of, n_slices, one_model, stacked_layers


class PathMerger:
    """Merges plain recipes: stacks of layers by running these, all others into one live model.

    One of the two models is in memory at a time.

    Args:
        mergers: Whose resident merger it takes.
    """

    def __init__(self, mergers: Mergers) -> None:
        self._resident = mergers.resident
        self._whole = WholeModels(mergers.resident)
        self._models: dict[str, SingleModel] = {}
        self._ends: dict[str, _Ends] = {}
        self._longest = 0  # layers of a stack that needed a model of its own
        self._shells: LayerShells | None = None
        self._tensors: ResidentTensors | None = None
        self._impossible: set[str] = set()  # models whose tensors are not parameters one by one

    def merge(self, recipe: Recipe, deadline: Deadline | None = None) -> LiveModel:
        """See :class:`evomerge.merging.base.Merger`."""
        with failures_told():
            if self._whole.takes(recipe):
                self._shells = self._tensors = None
                self._resident.drop_live()
                return self._whole.live(recipe)
        self._whole.drop()
        layers = stacked_layers(recipe)
        is_stack = n_slices(recipe) > 1 or self._shells is not None
        if layers and is_stack and not self._impossible & {repr(one.model) for one in layers}:
            with torch.no_grad(), failures_told():
                live = None if sum_in(recipe) else self._run(recipe, layers, deadline or Deadline())
            if live is not None:
                return live
        self._shells = self._tensors = None
        return self._resident.merge(recipe, deadline)

    def drop_live(self) -> None:
        """See :class:`evomerge.merging.base.KindMerger`."""
        self._shells = self._tensors = None
        self._whole.drop()
        self._resident.drop_live()

    def forget_structures(self, coming: Recipe | None = None) -> None:
        """See :class:`evomerge.merging.base.Merger`."""
        self._models.clear()
        self._ends.clear()
        self._shells = self._tensors = None
        self._whole.drop()
        self._resident.forget_structures()

    def _run(
        self, recipe: Recipe, layers: Sequence[StackedLayer], deadline: Deadline
    ) -> LiveModel | None:
        """The live model of a stack; None where it has to be merged."""
        ends = self._ends_of(recipe, layers)
        if self._shells is None:
            self._resident.drop_live()
        if self._tensors is None:
            self._tensors = ResidentTensors(
                self._resident.device, self._resident.dtype_in(ends.folder)
            )
        wanted = [ends.wanted(recipe), *(self._layer(recipe, layer) for layer in layers)]
        outer, *stack = self._tensors.rows(wanted, deadline)
        tensors = ends.named(outer)
        shells = self._shells
        key = (ends.key, frozenset(tensors), _present(stack))
        if shells is None or shells.key != key or shells.most < len(layers):
            self._shells = shells = None  # before the next one takes memory
            # Longer stacks will come: a shell takes no weights, another model seconds.
            places = [*stack, *[stack[-1]] * (self._places(recipe, layers) - len(stack))]
            names = ends.layer_names(len(places))
            weights = self._resident.load(
                ends.config(len(places)), {**tensors, **_named(places, names)}
            )
            if weights.in_place and weights.module.dtype == self._tensors.dtype:
                shells = LayerShells.of(weights.module, weights.bound, [*tensors], names, key)
            if shells is None:
                self._impossible.update(repr(layer.model) for layer in layers)
                return None
            self._shells = shells
        module = shells.run(tensors, stack, ends.layers_key)
        module.generation_config = ends.folder.generation
        return LiveModel(module=module, tokenizer=ends.folder.tokenizer)

    def _layer(self, recipe: Recipe, layer: StackedLayer) -> list[Wanted]:
        planned = self._single(recipe, layer.model).layer(layer.layer)
        return [Wanted(one, layer.scale_of(one.name) if one else None) for one in planned]

    def _single(self, recipe: Recipe, model: Any) -> SingleModel:
        passed = one_model(recipe, model)
        if passed.digest not in self._models:
            self._models[passed.digest] = SingleModel(self._resident.structure(passed))
        return self._models[passed.digest]

    def _places(self, recipe: Recipe, layers: Sequence[StackedLayer]) -> int:
        """For how many layers a model gets places: half as many again as any stack had so far."""
        self._longest = max(self._longest, len(layers))
        return len(layers) if self._lists_layers(recipe, layers) else self._longest * 3 // 2

    def _lists_layers(self, recipe: Recipe, layers: Sequence[StackedLayer]) -> bool:
        """Whether its configuration can be written for its own number of layers only."""
        return self._single(recipe, layers[0].model).lists_layers

    def _ends_of(self, recipe: Recipe, layers: Sequence[StackedLayer]) -> _Ends:
        """What surrounds the layers of a stack, planned once for all with the same ends."""
        n_between = len(layers) - 1
        if not self._lists_layers(recipe, layers):
            n_between = min(n_between, 1)
        plan = ends_of(recipe, n_between)
        key = plan.structure_key
        if key not in self._ends:
            self._ends[key] = _Ends(
                self._resident.structure(plan), self._resident.surroundings(plan), n_between
            )
        return self._ends[key]


class _Ends:
    """What surrounds the layers of a stack.

    Args:
        structure: Of the recipe with its ends alone.
        folder: What would lie beside its weights.
        n_between: Its layers but for the last.

    Attributes:
        folder: As given.
        layers_key: Where the configuration has the number of layers.
        key: Equal where the configurations are, but for that number.
    """

    def __init__(self, structure: Structure, folder: BuiltFolder, n_between: int) -> None:
        self.folder, self._structure, self._n_between = folder, structure, n_between
        self._module = module_of(structure)
        of_layers = {w.name for i in range(n_between + 1) for w in self._module.layer_weights(i)}
        self._outer = [planned.name not in of_layers for planned in structure.tensors]
        self._names: list[list[str]] = []
        self.layers_key = str(self._module.info.num_layers_config_key())
        self.key = replace(folder, config=self.config(1)).config_text

    def config(self, n_layers: int) -> PreTrainedConfig:
        """The configuration of a stack of so many layers."""
        config = copy.deepcopy(self.folder.config)
        set_config_value(config, self.layers_key, n_layers)
        return config

    def layer_names(self, n_layers: int) -> list[list[str]]:
        """Names of the tensors of every layer of a stack."""
        for index in range(len(self._names), n_layers):
            self._names.append([weight.name for weight in self._module.layer_weights(index)])
        return self._names[:n_layers]

    def wanted(self, recipe: Recipe) -> list[Wanted]:
        """Embeddings, final norm and head of a stack."""
        values = self._structure.values(ends_of(recipe, self._n_between))
        return [
            Wanted(planned, of_tensor.settings[0].get("scale"))
            for (planned, of_tensor), is_outer in zip(values, self._outer, strict=True)
            if is_outer
        ]

    def named(self, parameters: Row) -> dict[str, torch.nn.Parameter]:
        """The same as parameters, by their names."""
        names = [
            one.name
            for one, is_outer in zip(self._structure.tensors, self._outer, strict=True)
            if is_outer
        ]
        return {name: one for name, one in zip(names, parameters, strict=True) if one is not None}


def _present(stack: Sequence[Row]) -> tuple[tuple[bool, ...], ...]:
    """Which tensors the layers have: once where all have the same, as stacks of any length do."""
    rows = [tuple(one is not None for one in row) for row in stack]
    return tuple(rows if len(set(rows)) > 1 else rows[:1])


def _named(stack: Sequence[Row], names: Sequence[Sequence[str]]) -> dict[str, torch.nn.Parameter]:
    """The parameters of all layers, by their names in a built folder."""
    return {
        name: parameter
        for in_layer, parameters in zip(names, stack, strict=True)
        for name, parameter in zip(in_layer, parameters, strict=True)
        if parameter is not None
    }

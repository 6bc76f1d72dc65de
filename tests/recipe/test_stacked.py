"""Stacks of layers in recipes that people wrote: read as mergekit reads them, or left to it."""

from __future__ import annotations

import pytest
from mergekit import merge_methods
from mergekit.common import ModelReference
from mergekit.config import ConfigReader, MergeConfiguration
from mergekit.parameter_resolver import resolve_parameters

from evomerge.foundations.errors import EvomergeError
from evomerge.merging.mergers import Mergers
from evomerge.merging.path_merger import PathMerger
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from evomerge.recipe.stacked import n_slices, stacked_layers


def stack(layer_range, **slice_keys):
    source = {"model": "org/a", "layer_range": layer_range}
    return {"merge_method": "passthrough", "slices": [{"sources": [source], **slice_keys}]}


@pytest.mark.parametrize("layer_range", [[0, 2], ["0", 2], [0, 2.0], ("0", "2")])
def test_numbers_are_read_as_mergekit_reads_them(layer_range):
    config = stack(layer_range)
    read = MergeConfiguration.model_validate(config).slices[0].sources[0].layer_range
    assert [one.layer for one in stacked_layers(Recipe(config))] == [*range(*read)] == [0, 1]


def test_a_tensor_is_scaled_by_what_mergekit_finds_first():
    source = {"model": "org/a", "layer_range": [0, 1]}
    parts = {
        "source": [{"filter": "o_proj", "value": 0.5}],
        "slice": [{"filter": "proj", "value": 2.0}, {"filter": "o_proj", "value": 7.0}],
        "recipe": [{"filter": "norm", "value": 3.0}, {"value": 1.5}],
    }
    scale = {where: {"parameters": {"scale": entries}} for where, entries in parts.items()}
    slice_ = {"sources": [{**source, **scale["source"]}], **scale["slice"]}
    config = {"merge_method": "passthrough", "slices": [slice_], **scale["recipe"]}
    (layer,) = stacked_layers(Recipe(config))
    read = MergeConfiguration.model_validate(config)
    sources = ConfigReader(config=read, t=0.0, slice_out=read.slices[0]).parameter_sources
    spec, model = merge_methods.get("passthrough").spec, ModelReference.parse("org/a")
    for name, factor in (("o_proj", 0.5), ("q_proj", 2.0), ("norm", 3.0), ("bias", 1.5)):
        tensor = f"model.layers.0.{name}.weight"
        _, theirs = resolve_parameters(
            spec,
            tensor_name=tensor,
            inputs={model: tensor},
            sources=sources,
            base_model=None,
            t=0.0,
        )
        assert layer.scale_of(tensor) == theirs[model]["scale"] == factor, name


WRONG = {
    "no range": {"merge_method": "passthrough", "slices": [{"sources": [{"model": "org/a"}]}]},
    "no model": {"merge_method": "passthrough", "slices": [{"sources": [{"layer_range": [0, 1]}]}]},
    "text": {"merge_method": "passthrough", "slices": "text"},
    "a number": {"merge_method": "passthrough", "slices": 3},
    "a slice of text": {"merge_method": "passthrough", "slices": ["text", "text"]},
    "no sources": {"merge_method": "passthrough", "slices": [{}, {}]},
    "sources of text": {"merge_method": "passthrough", "slices": [{"sources": "t"}] * 2},
    "a source of text": {"merge_method": "passthrough", "slices": [{"sources": ["t"]}] * 2},
    "half a layer": stack([0, 1.5]),
    "one end": stack([0]),
    "a word": stack(["zero", 2]),
    "parameters of text": stack([0, 2], parameters="text"),
    "a filter that is no text": stack(
        [0, 2], parameters={"scale": [{"filter": 3, "value": 0.5}, {"value": 1.0}]}
    ),
}


@pytest.mark.parametrize("config", WRONG.values(), ids=WRONG)
def test_of_another_shape_mergekit_tells(config):
    recipe = Recipe(config)
    assert stacked_layers(recipe) == ()
    assert n_slices(recipe) in (0, 1, 2)
    with pytest.raises(EvomergeError):
        PathMerger(Mergers(ResidentMerger)).merge(recipe)

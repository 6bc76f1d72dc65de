"""Stacks of layers in recipes that people wrote: read as mergekit reads them, or left to it."""

from __future__ import annotations

import pytest
from mergekit.config import MergeConfiguration

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

"""What mergekit ignores in a recipe: the tables against its classes, and what is told."""

from __future__ import annotations

import pytest
import yaml
from mergekit import config as mergekit_config
from mergekit.tokenizer import config as tokenizer_config

from evomerge.foundations.errors import GenomeError
from evomerge.foundations.findings import Severity
from evomerge.genome.source import parse_yaml
from evomerge.recipe import keys
from evomerge.recipe.file import recipe_config
from evomerge.recipe.keys import ignored_keys, without

CLASSES = {
    "RECIPE": mergekit_config.MergeConfiguration,
    "MODULE": mergekit_config.OutputModuleDefinition,
    "SOURCE": mergekit_config.InputSliceDefinition,
    "MODEL": mergekit_config.InputModelDefinition,
    "SETTING": mergekit_config.ConditionalParameter,
    "TOKENIZER": tokenizer_config.TokenizerConfig,
    "TOKEN": tokenizer_config.TokenEmbeddingConfig,
}


@pytest.mark.parametrize("name", CLASSES)
def test_the_keys_are_those_of_mergekits_classes(name):
    assert getattr(keys, name) == set(CLASSES[name].model_fields)


def test_of_a_slice_mergekit_knows_one_key_more_that_it_never_reads():
    fields = mergekit_config.OutputSliceDefinition.model_fields
    assert set(fields) - {"residual_weight"} == keys.SLICE


RECIPE = """\
name: a label
paramters_of_mine: 1
merge_method: model_stock
base_model: org/base
models:
  - {model: org/base, parameters: {weight: 1}}
  - {model: org/a, parameters: {weight: [{filter: mlp, value: [1, 2]}, {value: 1}]}}
  - {model: org/b, weights: 0.5}
tokenizer: {source: union, tokens: {<x>: {source: org/a, forced: true}}}
parameters: {int8_mask: true, filter_wise: [{value: true, note: 1}]}
"""


def test_every_ignored_key_is_found_where_it_stands():
    found = ignored_keys(yaml.safe_load(RECIPE))
    assert {one.path: one.meant for one in found} == {
        ("name",): "",
        ("paramters_of_mine",): "",
        ("models", 0, "parameters", "weight"): "",
        ("models", 1, "parameters", "weight"): "",
        ("models", 2, "weights"): "",
        ("parameters", "int8_mask"): "",
        ("parameters", "filter_wise", 0, "note"): "",
        ("tokenizer", "tokens", "<x>", "forced"): "force",
    }


def test_without_them_mergekit_reads_the_same():
    config = yaml.safe_load(RECIPE)
    left = without(config, ignored_keys(config))
    assert left["models"] == [{"model": "org/base"}, {"model": "org/a"}, {"model": "org/b"}]
    assert ignored_keys(left) == []
    read = mergekit_config.MergeConfiguration.model_validate
    assert read(left).tokenizer == read(config).tokenizer


def test_settings_that_the_method_looks_up_elsewhere_are_found():
    config = {
        "merge_method": "della",
        "base_model": "org/base",
        "slices": [
            {
                "sources": [
                    {"model": "org/base", "layer_range": [0, 2], "parameters": {"weight": 1}},
                    {"model": "org/a", "layer_range": [0, 2], "parameters": {"lambda": 1}},
                ],
                "parameters": {"weight": 1, "gamma": 0.1, "densty": 0.4},
                "residual_weight": 0.5,
            }
        ],
    }
    found = {one.path[-1]: (one.why, one.meant) for one in ignored_keys(config)}
    assert found == {
        "residual_weight": ("it reads no such key", ""),
        "gamma": ("della has no such parameter", ""),
        "densty": ("della has no such parameter", "density"),
        "weight": ("della has no weight for the base", ""),
        "lambda": (
            "it belongs to the whole merge, della does not look for it under a model",
            "",
        ),
    }


def read(text):
    told = []
    config = recipe_config(parse_yaml(text, "some.yml"), told.append)
    return config, told


LINEAR = "merge_method: linear\nmodels: [{model: org/a, parameters: {weight: 1, density: 1}}]\n"


def test_what_is_left_out_is_told_by_how_strange_it_is():
    config, told = read(LINEAR + "name: mine\ncreator: me\n")
    assert config == {
        "merge_method": "linear",
        "models": [{"model": "org/a", "parameters": {"weight": 1}}],
    }
    assert {(f.severity, f.problem.where) for f in told} == {
        (Severity.NOTE, "some.yml:2: models[0].parameters.density"),
        (Severity.NOTE, "some.yml:3: name"),
        (Severity.WARNING, "some.yml:4: creator"),
    }
    assert "mergekit ignores 'creator': it reads no such key; it is left out" in str(told[-1])


def test_a_helper_is_not_told_and_is_merged_where_it_is_used():
    config, told = read(
        "scale: &SCALE {weight: 0.5}\nmerge_method: linear\nmodels:\n"
        "  - {model: org/a, parameters: *SCALE}\n  - {model: org/b, parameters: {<<: *SCALE}}\n"
    )
    assert told == []
    assert [model["parameters"] for model in config["models"]] == [{"weight": 0.5}] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINEAR + "paramters: {normalize: false}\n", "some.yml:3: paramters: .*'parameters'"),
        (LINEAR + "parameters: {normalise: 0}\n", "parameters.normalise: .*'normalize'"),
        (LINEAR + "out_type: float16\n", "out_type: .*did you mean 'out_dtype'"),
        ("models: [org/a]\n", "names no merge_method"),
        ("base_model: org/a\nexperts: []\n", "names no merge_method"),
        ("merge_method: linear\nparameters: {weight: .nan}\n", "holds what no recipe can"),
    ],
)
def test_what_is_no_recipe_or_misspelt_is_refused(text, message):
    with pytest.raises(GenomeError, match=message):
        read(text)


STACK = """\
tag: &QUIETER 0.66
quiet: &QUIET
  parameters:
    scale: [{filter: v_proj, value: *QUIETER}, {filter: up_proj, value: *QUIETER}, {value: 1}]
slices:
  - sources: [{model: &ONE org/a, layer_range: [0, 3]}]
  - sources:
      - <<: *QUIET
        model: &OTHER org/b
        layer_range: [1, 3]
  - sources: [{<<: [*QUIET], model: *ONE, layer_range: [2, 4]}]
merge_method: passthrough
base_model: *OTHER
dtype: float32
"""


def test_a_stack_with_merge_keys_is_what_mergekit_reads():
    config, told = read(STACK)
    assert told == []
    scale = config["slices"][2]["sources"][0]["parameters"]["scale"]
    assert scale[0] == {"filter": "v_proj", "value": 0.66}
    validate = mergekit_config.MergeConfiguration.model_validate
    assert validate(config) == validate(yaml.safe_load(STACK))

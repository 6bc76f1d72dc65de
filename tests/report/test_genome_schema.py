"""The JSON schema takes what the loader takes, and refuses what it refuses."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from evomerge.compiler.json_schema import genome_schema
from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml, read_yaml

GENOMES = sorted((Path(__file__).parents[2] / "genomes").rglob("*.y*ml"))
SCHEMA = genome_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SHORT = """
genome:
  models: [org/a, {model: org/b}, org/c+org/lora]
  base_model: org/base@main
  merge_method: ties
tasks: [arc_easy]
optimizer: tpe
"""
LONG = """
genome:
  models:
  - model: {model: {path: my+folder, revision: main}, lora: org/lora}
    parameters: {weight: 0.5, density: {range: [0.1, 0.9], initial: 0.5}}
  - model: {path: org/b}
  base_model: {model: org/base}
  merge_method: dare_ties
  granularity: layers
  layer_granularity: 4
  filters: [self_attn, mlp]
  normalize: null
  parameters:
    weight: [{filter: self_attn, range: [1e-3, 1], log: true}, {filter: "*", value: [0, 1]}]
    density: [0.2, 0.5, 0.8]
    lambda: {choice: [0.5, 1]}
    rescale: true
tasks:
- {name: gsm8k, metric: "exact_match,strict-match", weight: 0.5, samples: [1, 2, 3]}
holdout: [{name: arc_easy, limit: 20, num_fewshot: 0}]
objective: worst
optimizer: {name: cma_es, budget: 20, sigma: 0.2}
evaluation: {batch_size: auto, apply_chat_template: true, gen_kwargs: {temperature: 0}}
execution: {workers: 2}
run_dir: runs/mine
"""
WRONG = {
    "an unknown key": SHORT + "tokenizer_sorce: base\n",
    "an unknown method": SHORT.replace("ties", "tiess"),
    "an unknown optimizer": SHORT.replace("tpe", "cmaes"),
    "a model without a path": SHORT.replace("{model: org/b}", "{lora: org/b}"),
    "no tasks": SHORT.replace("[arc_easy]", "[]"),
    "no models": SHORT.replace("[org/a, {model: org/b}, org/c+org/lora]", "[]"),
    "two kinds of setting": LONG.replace("{choice: [0.5, 1]}", "{choice: [0.5, 1], value: 1}"),
    "a choice of one": LONG.replace("{choice: [0.5, 1]}", "{choice: [1]}"),
    "a budget of nothing": LONG.replace("budget: 20", "budget: 0"),
    "an unknown objective": LONG.replace("worst", "best"),
    "an unknown key of a task": LONG.replace("limit: 20", "limits: 20"),
}


def is_valid(data):
    return VALIDATOR.is_valid(data)


def loads(text):
    try:
        validate_genome(parse_yaml(text, "genome.yml"))
    except GenomeError:
        return False
    return True


def test_it_is_a_json_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", [SHORT, LONG], ids=["short forms", "long forms"])
def test_it_takes_every_form_the_loader_takes(text):
    assert loads(text)
    VALIDATOR.validate(parse_yaml(text, "genome.yml").data)


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_it_refuses(text):
    assert not loads(text) or "cmaes" in text  # optimizers are looked up when compiling
    assert not is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("file", GENOMES, ids=[file.name for file in GENOMES])
def test_every_shipped_genome_is_valid(file):
    VALIDATOR.validate(read_yaml(file).data)


def test_stages_are_searches_with_names():
    named = "{name: sums, genome: {merge_method: linear, models: [a, {stage: first}]}}"
    staged = f"tasks: [t]\nstages: [{named}]\n"
    assert is_valid(yaml.safe_load(staged))
    for wrong in ("name: sums, ", ", {stage: first}"):
        other = staged.replace(wrong, "" if "name" in wrong else ", {stage: first, lora: b}")
        assert not is_valid(yaml.safe_load(other)), other
    assert not is_valid(yaml.safe_load(staged + "limits: 3"))
    assert not is_valid(yaml.safe_load(staged.replace("{name", "{run_dir: out, name")))


def test_every_key_is_described():
    for name, definition in [("Genome", SCHEMA), *SCHEMA["$defs"].items()]:
        for key, value in definition.get("properties", {}).items():
            told = "description" in value or "$ref" in value  # the block's own sentence
            assert told or name == "ModelName", f"{name}.{key}"

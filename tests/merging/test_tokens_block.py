"""mergekit's block of single tokens: handed through, merged as it is built, never searched."""

from __future__ import annotations

import pytest
import yaml

from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import validate_genome
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from evomerge.merging.resident import ResidentMerger
from evomerge.models.inspect import read_model
from evomerge.models.shared_layers import describe
from evomerge.recipe.plain import Recipe
from evomerge.report.exporting import Export
from tests.merging.built import SEED, assert_equals_folder, build_in_process
from tests.tiny_models import tiny_family, tiny_model


@pytest.fixture(scope="module")
def definition(tmp_path_factory):
    """A genome whose models have tokens of their own, and that says what their rows are."""
    folder = tmp_path_factory.mktemp("family")
    base, model, _ = tiny_family(folder)
    wide = tiny_model(folder / "wide", seed=5, base=base, extra_tokens=["<tool>", "<think>"])
    kept = {"kind": "model_token", "model": str(wide), "token": "<think>"}
    tokens = {
        "<tool>": {"source": kept, "force": True},
        "<think>": {"source": {"kind": "zero"}, "force": True},
        "fox": {"source": {"kind": "model_token", "model": str(wide), "token_id": 9}},
    }
    return MergeDefinition.model_validate(
        {
            "models": [str(model), str(wide)],
            "base_model": str(base),
            "merge_method": "linear",
            "tokenizer": {"source": "union", "tokens": tokens, "pad_to_multiple_of": 64},
        }
    )


def test_a_block_of_tokens_is_merged_as_it_is_built_and_exported(definition, tmp_path):
    models = [read_model(source.model) for source in definition.models]
    space = merge_space_for(definition)(definition, describe(models), "float32")
    recipe = space.recipe(space.space.decode(space.space.initial))
    block = definition.tokenizer.model_dump(exclude_defaults=True)
    assert recipe.config["tokenizer"] == {"source": "union", **block}
    built = build_in_process(recipe.config, tmp_path / "built")
    live = ResidentMerger(merge_seed=SEED).merge(recipe)
    assert_equals_folder(live, built)
    rows = live.module.get_input_embeddings().weight
    ids = live.tokenizer.get_vocab()
    assert len(rows) == 128
    assert not rows[ids["<think>"]].any()
    content = {
        "trial": 1,
        "origin": "optimizer",
        "genome": "g.yml",
        "objective": {},
        "versions": {},
        "merge_seed": 0,
        "threads": 1,
        "device": "cpu",
        "recipe": dict(recipe.config),
    }
    text = Export(content).to_yaml()
    assert Recipe(yaml.safe_load(text)).digest == recipe.digest


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ("pad_to_multiple_of: {integer: [8, 64]}", "genome.tokenizer.pad_to_multiple_of"),
        ("tokens: {<x>: {source: {token_id: {integer: [1, 5]}}}}", "tokens.<x>.source.token_id"),
        ("tokens: {<x>: {force: {choice: [true, false]}}}", "genome.tokenizer.tokens.<x>.force"),
    ],
)
def test_nothing_of_it_is_searched(changed, where):
    text = (
        "genome:\n  models: [a, b]\n  merge_method: linear\n"
        f"  tokenizer: {{source: union, {changed}}}\ntasks: [t]\n"
    )
    with pytest.raises(GenomeError, match="a tokenizer has nothing to be searched") as caught:
        validate_genome(parse_yaml(text, "genome.yml"))
    assert where in str(caught.value)

"""Recipes of mergekit-moe: what is read of a file, what is told and what is refused."""

from __future__ import annotations

import pytest
import yaml

from evomerge.foundations.errors import GenomeError
from evomerge.recipe.file import documents_of, recipe_of
from evomerge.recipe.plain import Recipe

MODELS = """\
base_model: org/a
gate_mode: random
experts:
- source_model: org/a
- source_model: org/b
"""
MERGED = """\
name: first
merge_method: linear
models: [{model: org/c, parameters: {weight: 1}}]
---
"""


def read(text, tmp_path):
    file = tmp_path / "moe.yml"
    file.write_text(text)
    told = []
    return recipe_of(documents_of(file), told.append), told


def test_models_alone_are_one_file_and_one_command(tmp_path):
    recipe, told = read(MODELS, tmp_path)
    assert told == []
    assert (recipe.kind, recipe.documents, recipe.made, recipe.dtype) == ("moe", (), (), None)
    assert [model.text for model in recipe.models] == ["org/a", "org/b"]
    ((name, text),) = recipe.files("stages").items()
    assert name == "moe.yml"
    assert yaml.safe_load(text) == yaml.safe_load(MODELS)
    (command,) = recipe.commands(["moe.yml"], "out", "stages")
    assert (command.program, command.arguments) == ("mergekit-moe", ("moe.yml", "out"))
    assert recipe.drawn == ("gates",)


def test_a_merge_is_named_by_the_folder_where_it_is_built(tmp_path):
    recipe, _ = read(MERGED + MODELS.replace("org/b", "first"), tmp_path)
    files = recipe.files("somewhere/stages")
    joined = yaml.safe_load(files["moe.yml"])
    assert joined["experts"][1]["source_model"] == "somewhere/stages/evomerge-stage-1"
    assert yaml.safe_load(files["merges.yml"])["name"] == "evomerge-stage-1"
    before, after = recipe.commands(["merges.yml", "moe.yml"], "out", "somewhere/stages")
    assert before.program == "mergekit-multi"
    assert {"merges.yml", "somewhere/stages", "--no-lazy"} <= set(before.arguments)
    assert after.arguments == ("moe.yml", "out")


def test_a_merge_of_a_merge_is_built_after_it(tmp_path):
    second = MERGED.replace("first", "second").replace("org/c", "first")
    recipe, _ = read(second + MERGED + MODELS.replace("org/b", "second"), tmp_path)
    assert [dict(one)["models"][0]["model"] for one in recipe.documents] == [
        "org/c",
        recipe.made[0],
    ]
    turned = Recipe(
        {
            **recipe.config,
            "merges": [
                {**one, "name": name}
                for one, name in zip(recipe.config["merges"][::-1], recipe.made, strict=True)
            ],
        }
    )
    with pytest.raises(ValueError, match="evomerge-stage-1 merges evomerge-stage-1, made after"):
        turned.check()


def test_keys_that_mergekit_moe_ignores_are_told_and_left_out(tmp_path):
    text = MODELS.replace("org/b\n", "org/b\n  weight: 2\n") + "tokenizer_source: union\n"
    recipe, told = read(text, tmp_path)
    assert recipe.config["moe"] == yaml.safe_load(MODELS)
    places = [str(one).partition("moe.yml:")[2].partition(": it reads")[0] for one in told]
    assert places == [
        "6: experts[1].weight: mergekit ignores 'weight'",
        "7: tokenizer_source: mergekit ignores 'tokenizer_source'",
    ]


REFUSED = {
    "a misspelt key": (MODELS + "gate_mod: hidden\n", "did you mean 'gate_mode'"),
    "an unknown gate mode": (MODELS.replace("random", "hiden"), "unknown gate_mode 'hiden'"),
    "more experts than there are": (
        MODELS + "experts_per_token: 3\n",
        "experts_per_token is 3, expected 1 to 2",
    ),
    "no prompts": (
        MODELS.replace("random", "cheap_embed"),
        r"experts\[0\] has no positive_prompts",
    ),
    "an adapter": (MODELS.replace("org/b", "org/b+org/lora"), "which mergekit-moe cannot fold"),
    "an adapter on a merge": (
        MERGED + MODELS.replace("org/b", "first+org/lora"),
        "puts an adapter on what a stage makes",
    ),
    "a shared expert that nobody opens": (
        MODELS + "shared_experts: [{source_model: org/c}]\n",
        "the shared expert org/c is neither the base nor an expert",
    ),
    "no base": (MODELS.replace("base_model: org/a\n", ""), "None, which names no model"),
    "an expert without a model": (MODELS + "- positive_prompts: [x]\n", "each with a source_model"),
    "the same prompts": (
        MODELS.replace("random", "hidden").replace(
            "org/a\n- s", "org/a\n  positive_prompts: [x]\n- s"
        )
        + "  positive_prompts: [x]\n",
        "the prompts of all experts are the same",
    ),
    "the same experts": (
        "base_model: org/c\ngate_mode: hidden\nexperts:\n"
        "- {source_model: org/a, positive_prompts: [x]}\n"
        "- {source_model: org/a, positive_prompts: [y]}\n",
        "all experts are org/a, so that a router has nothing to choose",
    ),
    "prompts that are none": (
        MODELS.replace("random", "hidden").replace(
            "org/a\n- s", "org/a\n  positive_prompts: x\n- s"
        )
        + "  positive_prompts: [y]\n",
        "positive_prompts is 'x', expected a list of texts",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_mergekit_moe_would_stop_at_is_refused(tmp_path, name):
    text, sentence = REFUSED[name]
    with pytest.raises(GenomeError, match=sentence):
        read(text, tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"moe": []},
        {"moe": {}, "merges": {}},
        {"moe": None, "merges": []},
        {"moe": {"base_model": "a", "experts": [{}]}, "merges": []},
        {"moe": {"base_model": "a", "experts": 3}, "merges": [{"name": "../a"}]},
        {"moe": {"base_model": "a", "experts": [], "shared_experts": 3}, "merges": []},
    ],
)
def test_what_a_stranger_wrote_into_a_ledger_is_looked_at(config):
    with pytest.raises(ValueError, match="expected"):
        Recipe(config).check()

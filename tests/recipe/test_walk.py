"""What recipes hold is found, and other things put in its place, wherever mergekit nests it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import evomerge
from evomerge.foundations.errors import GenomeError
from evomerge.genome.model_names import ModelName
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import filters_in, models_in, with_settings

MAPPED = {"model": {"path": "odd+name"}, "lora": {"path": "l"}}
CONFIG = {
    "merge_method": "ties",
    "base_model": "base@v1",
    "modules": {
        "text": {
            "slices": [
                {
                    "base_model": "other",
                    "sources": [
                        {"model": "a+lora", "layer_range": [0, 2], "parameters": {"weight": 0.5}},
                        {"model": MAPPED, "parameters": {"w": [{"filter": "mlp", "value": 1}]}},
                    ],
                    "parameters": {"density": [{"filter": "*", "value": 0.5}]},
                }
            ]
        }
    },
    "parameters": {"normalize": True, "model": "no model"},
    "tokenizer": {
        "source": "union",
        "tokens": {"<x>": {"source": {"kind": "model_token", "model": "donor", "token": "<y>"}}},
    },
    "out_dtype": "bfloat16",
}  # fmt: skip


def texts(models):
    return [model.text for model in models]


def test_models_are_found_in_modules_slices_and_bases_and_donors_apart():
    recipe = Recipe(CONFIG)
    assert texts(recipe.models) == ["base@v1", "other", "a+lora", "odd+name+l"]
    assert texts(recipe.named) == [*texts(recipe.models), "donor"]
    legacy = Recipe({"merge_method": "linear", "models": [], "tokenizer_source": "giver"})
    assert texts(legacy.named) == ["giver"]
    assert legacy.models == Recipe({"tokenizer_source": "union"}).named == ()


def test_what_names_no_model_is_told_where_a_file_is_read_and_else_left_to_mergekit():
    config = {"models": [{"model": 5}, {"model": "a"}]}
    assert texts(Recipe(config).models) == ["a"]
    with pytest.raises(GenomeError, match="5 names no model"):
        list(models_in(config))
    assert Recipe(config).with_models(lambda model: model).config == config


def test_models_are_replaced_everywhere_and_the_others_keep_their_text():
    def moved(model: ModelName) -> ModelName:
        return model.model_copy(update={"path": f"/{model.path}", "revision": None})

    found = Recipe(CONFIG).with_models(moved)
    assert texts(found.named) == ["/base", "/other", "/a+lora", "/odd+name+l", "/donor"]
    assert found.config["parameters"] == CONFIG["parameters"]
    assert Recipe(CONFIG).with_models(lambda model: model).digest == Recipe(CONFIG).digest
    only = Recipe(CONFIG).with_models(lambda m: moved(m) if m.path == "a" else m)
    sources = only.config["modules"]["text"]["slices"][0]["sources"]
    assert [source["model"] for source in sources] == ["/a+lora", MAPPED]


def test_recipes_of_one_structure_differ_in_settings_only():
    key = Recipe(CONFIG).structure_key
    other = with_settings(CONFIG, lambda settings: {"weight": 2})
    assert Recipe(other).structure_key == key
    assert Recipe({**CONFIG, "dtype": "float32"}).structure_key != key
    assert with_settings({"parameters": {}}, lambda settings: None) == {}
    own = {"of_a_new_kind": [{"model": "a", "parameters": {"weight": 1}}]}
    assert with_settings(own, lambda settings: None) == {"of_a_new_kind": [{"model": "a"}]}


def test_filters_are_found_with_their_places():
    (place, mlp), (_, star) = filters_in(CONFIG)
    assert (mlp, star) == ("mlp", "*")
    part = CONFIG
    for key in place:
        part = part[key]
    assert part == "mlp"


def test_methods_and_dtype_of_a_recipe():
    assert (Recipe(CONFIG).methods, Recipe(CONFIG).dtype) == (("ties",), "bfloat16")
    assert Recipe({"merge_method": "slerp", "dtype": "float16"}).dtype == "float16"
    assert Recipe({}).dtype is None


def test_nobody_else_looks_into_a_recipe():
    package = Path(evomerge.__file__).parent
    looks = re.compile(r"recipe\.config(\[|\.get\()")
    files = [f for f in package.rglob("*.py") if looks.search(f.read_text(encoding="utf-8"))]
    assert [f for f in files if f.parent.name != "recipe"] == []

"""Files that mergekit does not copy, of the model that gives a merge its configuration."""

from __future__ import annotations

from evomerge.models.facts import ModelFacts, TensorFacts
from evomerge.recipe.left_files import left_files_of
from evomerge.recipe.plain import Recipe

CONFIG = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "model_type": "qwen2_5_vl",
    "text_config": {"num_hidden_layers": 1},
    "vision_config": {"depth": 1},
}
FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def left_of(recipe, **config):
    tensors = {"model.norm.weight": TensorFacts((1,), "F32", 4)}
    facts = [
        ModelFacts(
            name=name,
            reference=name,
            config={**CONFIG, **config},
            tensors=tensors,
            files=dict.fromkeys(FILES, 1),
        )
        for name in ("base", "other")
    ]
    return {one.model: one.names for one in left_files_of(Recipe(recipe), facts)}


def test_what_mergekit_copies_for_an_architecture_is_not_left():
    recipe = {"merge_method": "linear", "base_model": "base", "models": [{"model": "other"}]}
    assert left_of(recipe) == {"base": ("processor_config.json",)}


def test_with_a_tokenizer_of_its_own_mergekit_copies_less():
    recipe = {
        "merge_method": "linear",
        "models": [{"model": "other"}],
        "tokenizer_source": "union",
    }
    both = ("processor_config.json", "video_preprocessor_config.json")
    assert left_of(recipe) == {"other": both}
    template = {"merge_method": "linear", "models": [{"model": "base"}], "chat_template": "chatml"}
    assert left_of(template) == {"base": both}


def test_a_merge_of_a_merge_lacks_what_that_one_lacks():
    first = {"name": "first", "merge_method": "linear", "models": [{"model": "other"}]}
    models = [{"model": "base"}, {"model": "first"}]
    last = {"merge_method": "linear", "base_model": "first", "models": models}
    assert left_of({"stages": [first, last]}) == {"other": ("processor_config.json",)}
    first["chat_template"] = "chatml"
    both = ("processor_config.json", "video_preprocessor_config.json")
    assert left_of({"stages": [first, last]}) == {"other": both}


def test_a_text_model_has_no_such_files():
    recipe = {"merge_method": "linear", "models": [{"model": "base"}]}
    assert left_of(recipe, architectures=["LlamaForCausalLM"], model_type="llama") == {}

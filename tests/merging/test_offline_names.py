"""Without a network, names that only a mapping can say mean what they meant."""

from __future__ import annotations

from huggingface_hub import constants

from evomerge.genome.model_names import ModelName
from evomerge.merging.hub_cache import reachable
from evomerge.recipe.plain import Recipe


def test_a_model_whose_name_holds_a_plus_is_reached_offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    name = ModelName(path="x+", lora="a@b")
    config = {"merge_method": "linear", "models": [{"model": name.in_recipe}]}
    found = reachable(Recipe(config)).config["models"]
    assert found == [{"model": {"model": {"path": "x+"}, "lora": {"path": "a@b"}}}]

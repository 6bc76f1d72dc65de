"""Models that see, looked at before anything is merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText

from evomerge.foundations.findings import Severity
from evomerge.genome.model_names import ModelName
from evomerge.models.families import family_of
from evomerge.models.inspect import read_model
from tests.preflight.variants import check, config, lines, variant
from tests.tiny_models import tiny_model
from tests.tiny_vision_models import SETTINGS, tiny_vision_family, tiny_vision_model

Family = Callable[[str], list[Path]]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return cache(lambda kind: tiny_vision_family(tmp_path_factory.mktemp(kind), kind, 1))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "gemma3", "mistral3", "llava"])
def test_sound_ones_are_let_through(family: Family, kind: str) -> None:
    assert lines(check(family(kind)), Severity.ERROR) == ""


def test_a_text_model_of_the_same_kind_is_refused_with_the_reason(
    family: Family, tmp_path: Path
) -> None:
    text = tiny_model(tmp_path / "text", "qwen2")
    found = lines(check([family("qwen2_5_vl")[0], text]), Severity.ERROR)
    assert "has architecture Qwen2ForCausalLM, expected Qwen2_5_VLForConditionalGeneration" in found
    assert f"`evomerge graft {text} {family('qwen2_5_vl')[0]} -o FOLDER`" in found
    assert "mergekit merges no text model into one that sees: merge a copy of the latter" in found


def test_another_tower_is_refused(family: Family, tmp_path: Path) -> None:
    tower = {**SETTINGS["qwen2_5_vl"]["vision_config"], "depth": 3}
    deeper = tiny_vision_model(tmp_path / "deeper", vision_config=tower)
    found = lines(check([family("qwen2_5_vl")[0], deeper]), Severity.ERROR)
    assert "vision_tower of" in found
    assert "has 3 layers, expected 2 as" in found


def test_a_wider_tower_is_refused(family: Family, tmp_path: Path) -> None:
    tower = {**SETTINGS["qwen2_5_vl"]["vision_config"], "intermediate_size": 32}
    wider = tiny_vision_model(tmp_path / "wider", vision_config=tower)
    found = lines(check([family("qwen2_5_vl")[0], wider]), Severity.ERROR)
    assert "visual.blocks.0.mlp.up_proj.weight [32, 16], expected [24, 16]" in found


def test_what_mergekit_would_leave_out_in_silence_is_refused(
    family: Family, tmp_path: Path
) -> None:
    """It finds no tensor of LLaVA's language model under the names that files on the Hub have."""
    on_hub = tiny_vision_model(tmp_path / "llava", "llava", save_original_format=True)
    found = lines(check([on_hub]), Severity.ERROR)
    assert (
        "begin with 'language_model.model.', expected 'model.language_model.', and merge" in found
    )
    assert "save_pretrained(FOLDER, save_original_format=False)" in found
    loaded = AutoModelForImageTextToText.from_pretrained(on_hub)
    loaded.save_pretrained(on_hub, save_original_format=False)
    assert lines(check([on_hub]), Severity.ERROR) == ""


def test_names_of_transformers_that_mergekit_does_not_know_are_refused(tmp_path: Path) -> None:
    model = tiny_vision_model(tmp_path / "gemma3", "gemma3", is_on_hub=False)
    found = lines(check([model]), Severity.ERROR)
    assert "begin with 'vision_tower.', expected 'vision_tower.vision_model.'" in found
    assert "with the names that they have on the Hub" in found


def test_a_family_that_mergekit_cannot_read_is_refused(family: Family) -> None:
    found = lines(check(family("qwen2_vl")), Severity.ERROR)
    assert "mergekit looks for num_hidden_layers of Qwen2VLForConditionalGeneration" in found


def test_what_nobody_knows_the_parts_of_is_no_traceback(family: Family, tmp_path: Path) -> None:
    """Not even transformers makes a model of the first, nor has a class for the second."""
    llava = [variant(one, tmp_path / one.name) for one in family("llava")]
    held = json.loads((llava[0] / "config.json").read_text())
    for key, value in [
        ("hidden_size", "x"),
        ("num_attention_heads", 0),
        ("hidden_act", "no"),
        ("num_hidden_layers", 10**9),
    ]:
        for one in llava:
            config(text_config={**held["text_config"], key: value})(one)
        assert "Merge models that see with towers" not in lines(check(llava))
    for one in llava:
        config(architectures=["FooForCausalLM"])(one)
    assert "FooForCausalLM" in lines(check(llava), Severity.ERROR)


@pytest.mark.parametrize("depth", [10**9, -1, "x"])
def test_a_tower_of_impossible_depth_has_that_of_its_tensors(
    family: Family, tmp_path: Path, depth: object
) -> None:
    model = variant(family("qwen2_5_vl")[0], tmp_path / "deep")
    tower = {**SETTINGS["qwen2_5_vl"]["vision_config"], "depth": depth}
    config(vision_config=tower)(model)
    check([model, family("qwen2_5_vl")[1]])
    found = family_of(read_model(ModelName(path=str(model))))
    assert found is not None
    assert found.parts["vision_tower"].n_layers == 2

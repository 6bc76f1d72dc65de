"""A text model in a copy of one that sees writes as before, and merges with others of its kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from evomerge.foundations.errors import ModelError, OccupiedError
from evomerge.foundations.findings import Severity
from evomerge.genome.model_names import ModelName
from evomerge.merging.graft import write_graft
from evomerge.models.grafted import other_settings
from evomerge.models.inspect import read_model
from tests.preflight.variants import check, config, lines, token
from tests.tiny_models import tiny_model
from tests.tiny_vision_models import N_LAYERS, PROCESSOR, tiny_vision_model

# Model that sees -> the text model of its language part.
KINDS = {
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "mistral3": "mistral",
    "llava": "llama",
    "gemma3": "gemma3_text",
}
OF_ALL = {"num_hidden_layers": N_LAYERS, "intermediate_size": 48, "head_dim": 8}
EPSILON = {"qwen2_5_vl": 1e-5}  # of the norms, where transformers has another by default
TIED = ("mistral3", "gemma3")  # by default


def facts(folder: Path):
    return read_model(ModelName(path=str(folder)))


def pair(folder: Path, kind: str, **settings):
    """A text model and one that sees, whose language part is like it."""
    own = {"num_key_value_heads": 2, "query_pre_attn_scalar": 8, **OF_ALL}
    tied = {"tie_word_embeddings": kind in TIED}
    given = {**own, **tied, "dtype": "bfloat16", **settings}
    text = tiny_model(folder / "text", KINDS[kind], seed=3, drift=0.2, **given)
    return text, tiny_vision_model(folder / "whole", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_it_writes_what_the_text_model_writes(tmp_path: Path, kind: str) -> None:
    text, whole = pair(tmp_path, kind, rms_norm_eps=EPSILON.get(kind, 1e-6))
    assert [*other_settings(facts(text), facts(whole))] == []
    n_taken = write_graft(facts(text), facts(whole), tmp_path / "made")
    alone = AutoModelForCausalLM.from_pretrained(text, dtype=torch.float32).eval()
    inside = AutoModelForImageTextToText.from_pretrained(tmp_path / "made", dtype=torch.float32)
    tokens = torch.arange(8, 28)[None]
    with torch.no_grad():
        expected, found = alone(tokens).logits, inside.eval()(tokens).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    before = load_file(whole / "model.safetensors")
    after = load_file(tmp_path / "made" / "model.safetensors")
    assert before.keys() == after.keys()
    kept = [name for name in before if torch.equal(before[name], after[name])]
    assert len(kept) == len(before) - n_taken
    assert any("vi" in name for name in kept)
    assert lines(check([whole, tmp_path / "made"]), Severity.ERROR) == ""


def test_everything_else_stays_that_of_the_one_that_sees(tmp_path: Path) -> None:
    text, whole = pair(tmp_path, "qwen2_5_vl")
    (whole / "modeling_own.py").write_text("raise SystemExit")
    write_graft(facts(text), facts(whole), tmp_path / "made")
    made = facts(tmp_path / "made")
    assert made.config == facts(whole).config
    assert (tmp_path / "made" / "preprocessor_config.json").is_file()
    assert PROCESSOR
    assert "modeling_own.py" not in made.files
    with pytest.raises(OccupiedError, match="holds a model that was put together already"):
        write_graft(facts(text), facts(whole), tmp_path / "made")
    write_graft(facts(text), facts(whole), tmp_path / "made", force=True)


def test_a_head_that_is_tied_takes_its_place_too(tmp_path: Path) -> None:
    text, whole = pair(tmp_path, "qwen2_5_vl", tie_word_embeddings=True)
    write_graft(facts(text), facts(whole), tmp_path / "made")
    made = load_file(tmp_path / "made" / "model.safetensors")
    assert torch.equal(made["lm_head.weight"], made["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_hidden_layers": 2}, "has nothing for model.layers.2.input_layernorm.weight"),
        ({"num_hidden_layers": 4}, "has no place for model.layers.3.input_layernorm.weight"),
        ({"intermediate_size": 64}, r"mlp.down_proj.weight \[32, 64\], expected \[32, 48\]"),
        ({"extra_tokens": ["<tool>"]}, r"embed_tokens.weight \[97, 32\], expected \[96, 32\]"),
    ],
)
def test_models_that_do_not_fit_are_told_before_anything_is_written(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    text, whole = pair(tmp_path, "qwen2_5_vl", **settings)
    with pytest.raises(ModelError, match=said):
        write_graft(facts(text), facts(whole), tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_settings_that_the_weights_do_not_know_are_told(tmp_path: Path) -> None:
    text, whole = pair(tmp_path, "qwen2_5_vl", rms_norm_eps=1e-6)
    (line,) = other_settings(facts(text), facts(whole))
    assert line.startswith("rms_norm_eps of ")
    assert "is 1e-06" in line


def test_another_tokenizer_and_another_kind_of_model_are_told(tmp_path: Path) -> None:
    text, whole = pair(tmp_path, "llava")
    config(model_type="mistral")(text)
    token(95, "<another>")(text)
    kind, tokens = other_settings(facts(text), facts(whole))
    assert kind == f"model_type of {text} is 'mistral', of the language part of {whole} 'llama'"
    assert tokens == f"the tokenizer of {text} is another than that of {whole}, which is kept"


def test_the_other_way_round_is_told(tmp_path: Path) -> None:
    text, whole = pair(tmp_path, "qwen2_5_vl")
    with pytest.raises(ModelError, match="is no text model") as raised:
        write_graft(facts(whole), facts(text), tmp_path / "made")
    assert "is no model that sees" in str(raised.value)

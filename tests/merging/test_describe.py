"""What models say of themselves, and what is said of models that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from evomerge.errors import ModelError
from evomerge.merging.describe import describe
from evomerge.merging.vocabulary import tokenizers_differ
from tests.tiny_models import ARCHITECTURES, tiny_model


def names(*folders: Path) -> list[str]:
    return [str(folder) for folder in folders]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_of_a_file_has_its_place(tmp_path: Path, architecture: str) -> None:
    model = tiny_model(tmp_path, architecture, num_hidden_layers=3)
    found = describe(names(model))
    layers = [t.format(layer=i) for t in found.layer_tensors for i in range(3)]
    placed = {*found.embeddings, *layers, *found.final_norm, *found.head}
    buffers = (".masked_bias", ".attention.bias", ".inv_freq")
    stored = {n for n in load_file(model / "model.safetensors") if not n.endswith(buffers)}
    assert placed == stored
    assert found.n_layers == 3
    assert len(found.embeddings) == len(found.head) == 1
    assert found.name.endswith("ForCausalLM")


def test_a_tied_head_has_no_tensor(tmp_path: Path) -> None:
    assert describe(names(tiny_model(tmp_path, tie_word_embeddings=True))).head == ()


def test_a_vocabulary_of_another_size_fits_but_is_told(tmp_path: Path) -> None:
    one = tiny_model(tmp_path / "one")
    wider = tiny_model(tmp_path / "wider", extra_tokens=["<tool>"])
    assert describe(names(one, wider)) == describe(names(one))
    assert "vocab_size 97" in tokenizers_differ(names(one, wider))


def test_equal_tokenizers_do_not_differ(tmp_path: Path) -> None:
    folders = [tiny_model(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    assert tokenizers_differ(names(*folders)) == ""


def test_the_first_differing_token_is_named(tmp_path: Path) -> None:
    one = tiny_model(tmp_path / "one", vocab_size=97, extra_tokens=["<a>"])
    two = tiny_model(tmp_path / "two", vocab_size=97, extra_tokens=["<b>"])
    assert "2 tokens differ, first '<a>': id None" in tokenizers_differ(names(one, two))


def test_every_misfit_is_reported_at_once(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    deep = tiny_model(tmp_path / "deep", num_hidden_layers=3)
    wide = tiny_model(tmp_path / "wide", intermediate_size=80)
    other = tiny_model(tmp_path / "other", "qwen2")
    missing = tmp_path / "missing"
    with pytest.raises(ModelError, match="3 layers, expected 2") as caught:
        describe(names(base, deep, wide, other, missing))
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "mlp.down_proj.weight has shape [32, 80], expected [32, 64]" in text
    assert "architecture Qwen2ForCausalLM, expected LlamaForCausalLM" in text
    assert str(missing) in text


def test_tensors_that_a_merge_would_drop_are_reported(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, attention_bias=True)
    with pytest.raises(ModelError, match=r"knows no tensors .*k_proj\.bias.* in LlamaForCausalLM"):
        describe(names(model))


def test_a_folder_without_weights_is_reported(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="Unable to find model files"):
        describe(names(model))


def test_tensors_in_only_one_model_are_reported(tmp_path: Path) -> None:
    one, two = (tiny_model(tmp_path / name) for name in ("one", "two"))
    tensors = load_file(two / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, two / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensors are in only one .*up_proj"):
        describe(names(one, two))
